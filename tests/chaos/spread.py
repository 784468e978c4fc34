"""The suite over three hosts by TLS: two of every service on different ones, two gateways, one Redis."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from grpc import aio

from cli.authority import CERTIFICATE, Authority
from cli.embedded import valkey
from cli.program import PORTS
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest, GetStatusResponse
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings
from tests.chaos.netns import Host
from tests.chaos.server import START_S, Server
from tests.chaos.stack import AREAS, BOUNDS, FLAGS, NOTICING, SHARED, Redis, Stack, fill

NAME = "maas"  # every host's certificate is for it too: a client that knows several addresses asks for it
# By host: each service twice, never twice on one; any host but the first may go and nothing is lost with it.
WHERE: Sequence[Sequence[str]] = (
    ("redis", "gateway-1", "tokenization-1", "vision-1"),
    ("gateway-2", "tokenization-2", "sequence-1", "generation-1"),
    ("vision-2", "sequence-2", "generation-2"),
)
KEEPING = ("gateway", "sequence", "generation")


@dataclass(frozen=True)
class Wire:
    """Where a server is called: a host has one link for all that run on it."""

    address: str


@dataclass
class Spread(Stack):
    """`on` tells which processes a host has."""

    on: Mapping[str, list[Server]] = field(default_factory=dict)
    tls: TlsSettings = field(default_factory=TlsSettings)

    def channel(self) -> aio.Channel:
        return self._open("ipv4:///" + ",".join(one.link.address for one in self.gateways))

    async def status(self, gateway: Server) -> GetStatusResponse:
        async with self._open(gateway.link.address) as channel:
            return await GatewayServiceStub(channel).GetStatus(GetStatusRequest(), timeout=START_S)

    def _open(self, target: str) -> aio.Channel:
        shown = of_client(self.tls.read_tls())
        return open_channel(target, keepalive=NOTICING, credentials=shown, server_name=NAME)


@asynccontextmanager
async def spread(folder: Path, source: ModelStore, hosts: Sequence[Host]) -> AsyncIterator[Spread]:
    """Everything SERVING, at the end gone."""
    store = fill(folder, source, AREAS)
    authority = Authority(folder / "certs")
    places = {name: host for host, names in zip(hosts, WHERE, strict=True) for name in names}
    shown = {host.name: authority.issue(host.name, [host.address, NAME], 1) for host in hosts}
    trusted = folder / "certs" / CERTIFICATE
    tls = TlsSettings(tls_authority=trusted)
    redis = _redis(folder, places["redis"])

    def made(name: str, *flags: str) -> Server:
        host, kind = places[name], name.rpartition("-")[0]
        chain, key = shown[host.name]
        module = kind if kind == "gateway" else f"services.{kind}"
        speaking = (f"--tls-certificate={chain}", f"--tls-key={key}", f"--tls-authority={trusted}")
        port = PORTS[kind]
        listening = (f"--host={host.address}", f"--port={port}")
        keeping = [f"--redis-url={redis.url}"] if kind in KEEPING else []
        command = host.inside([sys.executable, "-m", module, *listening, *speaking, *BOUNDS, *keeping, *flags])
        log, wire = folder / f"{name}.log", Wire(f"{host.address}:{port}")
        return Server(name, port, command, wire, log, SHARED, host.address, tls)  # type: ignore[arg-type]

    services = {
        area: [made(f"{area}-{number}", f"--store={store}", *FLAGS[area]) for number in (1, 2)] for area in AREAS
    }
    addresses = {area: ",".join(one.link.address for one in both) for area, both in services.items()}
    told = [f"--{area}-address={both}" for area, both in addresses.items()]
    gateways = [made(f"gateway-{number}", *told) for number in (1, 2)]
    running = Spread(AREAS, redis, services, gateways, tls=tls)
    everything = (redis, *running)
    by_name = {one.name: one for one in everything}
    on = {host.name: [by_name[name] for name in names] for host, names in zip(hosts, WHERE, strict=True)}
    running = replace(running, on=on)
    try:
        for one in everything:
            one.start()
        for one in everything:
            await one.serving()
        yield running
    finally:
        for one in everything:
            one.kill()


def _redis(folder: Path, host: Host) -> Redis:
    """Of the embedded Valkey's configuration, but for other hosts."""
    program, url = valkey(folder)
    written = folder / "valkey.conf"
    written.write_text(written.read_text().replace("bind 127.0.0.1", f"bind {host.address}"))
    port = int(program.address.rpartition(":")[2])
    log, wire = folder / "redis.log", Wire(f"{host.address}:{port}")
    command = host.inside(program.command)
    there = url.replace("127.0.0.1", host.address)
    return Redis("redis", port, command, wire, log, host=host.address, url=there)  # type: ignore[arg-type]
