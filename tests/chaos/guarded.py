"""One of every process by mutual TLS, the gateway behind a policy: callers are known by their certificates."""

import asyncio
import os
import secrets
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from grpc import aio

from cli.authority import CERTIFICATE
from cli.embedded import valkey
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from services.runtime.tls.credentials import of_client
from services.runtime.tls.settings import TlsSettings
from tests.chaos.server import ROOT, Server
from tests.chaos.spread import KEEPING, Wire
from tests.chaos.stack import AREAS, BOUNDS, FLAGS, SHARED, Redis, fill
from tests.suite.conftest import free_ports

# Whose certificates there are, and their roles.
ROLES = {"caller": "caller", "admin": "operator", "guest": "guest"}
POLICY = """
[[allow]]
roles = ["caller"]

[[allow]]
roles = ["operator"]
administration = true
"""


@dataclass(frozen=True)
class Guarded:
    """`folder` has the certificates and the policy; the gateway is the last of the servers."""

    folder: Path
    servers: Sequence[Server]

    @property
    def gateway(self) -> Server:
        return self.servers[-1]

    def channel(self, name: str, server: Server) -> aio.Channel:
        """Shows the certificate of that name, and tries nothing twice: what fails is seen."""
        shown = of_client(_tls(self.folder, name).read_tls())
        return open_channel(f"{server.host}:{server.port}", retry=False, credentials=shown)

    def allow(self, more: str = "") -> None:
        """Writes the policy anew."""
        (self.folder / "policy.toml").write_text(POLICY + more)

    async def maas(self, *words: str) -> None:
        """Runs `maas …` as the administrator."""
        await _maas(self.folder, *words)

    async def serials(self) -> list[int]:
        """Of the certificates that who connects now is shown, by server."""
        return [await asyncio.to_thread(self._serial, one) for one in self.servers]

    def _serial(self, server: Server) -> int:
        files = _tls(self.folder, "caller")
        context = ssl.create_default_context(cafile=files.tls_authority)
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(str(files.tls_certificate), files.tls_key)
        plain = socket.create_connection((server.host, server.port), 10)
        with context.wrap_socket(plain, server_hostname=server.host) as line:
            return x509.load_der_x509_certificate(line.getpeercert(binary_form=True) or b"").serial_number


@asynccontextmanager
async def guarded(folder: Path, source: ModelStore) -> AsyncIterator[Guarded]:
    """Everything SERVING, at the end gone."""
    store, (program, url) = fill(folder, source, AREAS), valkey(folder)
    for words in (["server"], *(["client", name] for name in ROLES)):
        await _maas(folder, "certs", *words, f"--directory={folder / 'certs'}")
    listed = [
        f'[[certificates]]\nsubject = "maas:{name}"\ntenant = "acme"\nroles = ["{role}"]\n'
        for name, role in ROLES.items()
    ]
    (folder / "keys.toml").write_text("".join(listed))
    speaking = [f"--{name.replace('_', '-')}={value}" for name, value in _named(folder, "server").items()]
    environment = {**SHARED, "MAAS_MESH_KEY": secrets.token_hex(32)}
    ports = dict(zip((*AREAS, "gateway"), free_ports(len(AREAS) + 1), strict=True))

    def made(name: str, *flags: str) -> Server:
        module, port = name if name == "gateway" else f"services.{name}", ports[name]
        keeping = [f"--redis-url={url}"] if name in KEEPING else []
        command = [sys.executable, "-m", module, f"--port={port}", *speaking, "--tls-clients", *BOUNDS]
        wire, tls = Wire(f"127.0.0.1:{port}"), _tls(folder, "caller")
        more = (folder / f"{name}.log", environment, "127.0.0.1", tls)
        return Server(name, port, [*command, *keeping, *flags], wire, *more)  # type: ignore[arg-type]

    redis_port = int(program.address.rpartition(":")[2])
    redis = Redis("redis", redis_port, program.command, Wire(program.address), folder / "redis.log", url=url)  # type: ignore[arg-type]
    judged = (f"--api-keys-file={folder / 'keys.toml'}", f"--policy-file={folder / 'policy.toml'}")
    wired = [f"--{area}-address=127.0.0.1:{ports[area]}" for area in AREAS]
    services = [made(area, f"--store={store}", *FLAGS[area]) for area in AREAS]
    running = Guarded(folder, [*services, made("gateway", *judged, *wired)])
    running.allow()
    try:
        for one in (redis, *running.servers):
            one.start()
        for one in (redis, *running.servers):
            await one.serving()
        yield running
    finally:
        for one in (redis, *running.servers):
            one.kill()


def _named(folder: Path, name: str) -> dict[str, str]:
    """TLS settings of who shows the certificate of that name."""
    certs = folder / "certs"
    pair = {"tls_certificate": certs / f"{name}.pem", "tls_key": certs / f"{name}.key"}
    return {key: str(path) for key, path in (pair | {"tls_authority": certs / CERTIFICATE}).items()}


def _tls(folder: Path, name: str) -> TlsSettings:
    return TlsSettings(**_named(folder, name))  # type: ignore[arg-type]


async def _maas(folder: Path, *words: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    if (folder / "certs" / "admin.pem").exists():
        kept |= {f"MAAS_{key.upper()}": value for key, value in _named(folder, "admin").items()}
    with (folder / "maas.log").open("ab") as log:
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", *words), cwd=ROOT, env=kept, stdout=log, stderr=log
        )
    assert await run.wait() == 0, (folder / "maas.log").read_text()[-2000:]
