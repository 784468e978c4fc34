"""Two of every process of the suite and one Redis, each behind a link; nobody restarts what dies, but the test."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from grpc import aio

from cli.embedded import valkey
from cli.probe import redis_answers
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest, GetStatusResponse
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from services.runtime.channels import Keepalive, open_channel
from services.runtime.store.store import ModelStore
from tests.chaos.link import Link
from tests.chaos.server import START_S, Server
from tests.service.generation import NAMED, publish
from tests.suite.conftest import free_ports
from tests.unit.training import stored

AREAS = ("tokenization", "vision", "sequence", "generation")
STORED = {
    "tokenization": ("gpt2-bpe", "mistral-spm", "smollm2-135m-instruct"),
    "vision": ("mnist-cnn",),
    "sequence": ("silero-vad", "g2p-en", "minilm-l6-v2"),
}
FORECASTER = "ahead"
FLAGS: Mapping[str, Sequence[str]] = {
    "tokenization": ["--tokenize-model=gpt2-bpe"],
    "vision": ["--image-classify-model=mnist-cnn", "--image-embed-model=mnist-cnn"],
    "sequence": ["--session-checkpoint-steps=8", "--session-checkpoint-ms=50"],
    "generation": ["--generate-model=tiny", "--kv-cache-mib=16"],
}
# A caller shares two cores with all of them: it is more patient than a gateway, less so than its deadlines.
NOTICING = Keepalive(2, 4)
BOUNDS = ("--lame-duck-s=1", "--drain-s=10", "--threads=1")
SHARED = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(eq=False)
class Redis(Server):
    """A Valkey without a file: what it knew is lost with it."""

    url: str = field(default="", repr=False)

    async def serving(self) -> None:
        async with asyncio.timeout(START_S):
            while not await redis_answers(self.url):
                await asyncio.sleep(0.05)


@dataclass
class Stack:
    """All of it, running."""

    areas: Sequence[str]
    redis: Server
    services: Mapping[str, list[Server]]
    gateways: list[Server]

    def __iter__(self) -> Iterator[Server]:
        """Every process but Redis."""
        return iter([*(one for area in self.areas for one in self.services[area]), *self.gateways])

    def named(self, name: str) -> Server:
        return next(one for one in (*self, self.redis) if one.name == name)

    def channel(self) -> aio.Channel:
        """As a good client's: in turns over both gateways, sent again where that can do no harm."""
        return open_channel("ipv4:///" + ",".join(one.link.address for one in self.gateways), keepalive=NOTICING)

    async def status(self, gateway: Server) -> GetStatusResponse:
        """What a gateway says of itself, past its link."""
        async with open_channel(f"127.0.0.1:{gateway.port}", retry=False) as channel:
            return await GatewayServiceStub(channel).GetStatus(GetStatusRequest(), timeout=START_S)


def fill(folder: Path, source: ModelStore, areas: Sequence[str]) -> Path:
    """A store of small models."""
    store = folder / "store"
    for name in (name for area in areas for name in STORED.get(area, ())):
        shutil.copytree(source.root / name, store / name, copy_function=os.link)
    if "generation" in areas:
        publish(ModelStore(store), "tiny", **NAMED)
    errors = np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    stored.forecaster(store, name=FORECASTER, errors=errors)
    return store


@asynccontextmanager
async def stack(folder: Path, source: ModelStore, areas: Sequence[str] = AREAS) -> AsyncIterator[Stack]:
    """Everything SERVING, at the end gone."""
    store = fill(folder, source, areas)
    program, url = valkey(folder)
    redis_port = int(program.address.rpartition(":")[2])
    async with AsyncExitStack() as exits:

        async def linked(name: str, flags: Sequence[str]) -> Server:
            (port,) = free_ports(1)
            module = "gateway" if name.startswith("gateway") else f"services.{name.rpartition('-')[0]}"
            command = [sys.executable, "-m", module, f"--port={port}", *BOUNDS, *flags]
            link = await exits.enter_async_context(Link(port))
            return Server(name, port, command, link, folder / f"{name}.log", SHARED)

        link = await exits.enter_async_context(Link(redis_port))
        redis = Redis("redis", redis_port, program.command, link, folder / "redis.log", url=url)
        shared = f"--redis-url={url.replace(str(redis_port), str(link.port))}"
        services = {}
        for area in areas:
            keeps = [shared] if area in ("sequence", "generation") else []
            flags = [f"--store={store}", *FLAGS[area], *keeps]
            services[area] = [await linked(f"{area}-{number}", flags) for number in (1, 2)]
        where = {area: ",".join(one.link.address for one in services.get(area, [])) for area in AREAS}
        flags = [shared, *(f"--{area}-address={addresses}" for area, addresses in where.items())]
        gateways = [await linked(f"gateway-{number}", flags) for number in (1, 2)]
        running = Stack(areas, redis, services, gateways)
        everything = (redis, *running)
        try:
            for one in everything:
                one.start()
            for one in everything:
                await one.serving()
            yield running
        finally:
            for one in everything:
                one.kill()
