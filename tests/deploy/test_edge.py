"""The real Envoy as an edge: TLS on both its sides, certificates renewed in passing, connections bounded."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509

from cli.authority import Authority
from services.runtime.channels import open_channel
from services.runtime.tls import material
from services.runtime.tls.credentials import of_client
from tests.service.test_tls import Files, ask, serving
from tests.suite.envoy import CONFIGURATION, Edge, edge

pytestmark = [pytest.mark.slow]

TLS: dict[str, Any] = yaml.safe_load(CONFIGURATION.with_name("tls.yaml").read_text())


class Place:
    """A folder laid out as tls.yaml says, elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root, self._authority = root, Authority(root / "authority")
        self.folder = root / "tls"
        self.folder.mkdir()
        (self.folder / "ca.crt").write_bytes((root / "authority" / "authority.pem").read_bytes())
        self.renew()
        (root / "secret.yaml").write_text(json.dumps(self._here(TLS["secret"])))

    def renew(self) -> None:
        for file, name in zip(
            self._authority.issue("maas", ["maas", "localhost"], 1), ("tls.crt", "tls.key"), strict=True
        ):
            aside = self._root / name
            aside.write_bytes(Path(file).read_bytes())
            aside.replace(self.folder / name)

    def _here(self, told: Any) -> Any:
        return json.loads(json.dumps(told).replace("/etc/envoy", str(self._root)))

    def change(self, found: dict[str, Any]) -> None:
        (listener,), (cluster,) = found["static_resources"]["listeners"], found["static_resources"]["clusters"]
        (chain,) = listener["filter_chains"]
        chain["transport_socket"], cluster["transport_socket"] = (
            self._here(TLS["listener"]),
            self._here(TLS["cluster"]),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Of the gateway behind."""
        names = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}
        return {f"tls_{name}": self.folder / file for name, file in names.items()} | {"tls_clients": True}

    async def shown(self, port: int) -> int:
        """The serial number of the edge's certificate."""
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


@asynccontextmanager
async def fronted(folder: Path, gateway: str, change: Callable[[dict[str, Any]], None]) -> AsyncIterator[Edge]:
    """Waited for in a thread: the gateway answers Envoy's probes on this one's loop."""
    manager = edge(folder, [gateway], change)
    front = await asyncio.to_thread(manager.__enter__)
    try:
        yield front
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():
        await asyncio.sleep(0.05)


async def test_tls_on_both_sides_and_renewed_certificates(tmp_path: Path) -> None:
    place = Place(tmp_path)
    async with (
        serving(Files(tmp_path / "unused"), **place.settings) as (gateway, _),
        fronted(tmp_path / "envoy", gateway, place.change) as front,
    ):
        credentials = of_client(material.read(None, None, place.folder / "ca.crt"))
        async with open_channel(
            front.address, retry=False, credentials=credentials, server_name="localhost"
        ) as channel:
            assert await ask(channel) == "well"
            before = await place.shown(front.port)
            place.renew()

            async def renewed() -> bool:
                return await place.shown(front.port) != before

            await asyncio.wait_for(until(renewed), 20)
            # The connection that stood goes on.
            assert await ask(channel) == "well"
        async with open_channel(front.address, retry=False) as clear:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(clear)


async def test_who_opens_too_many_connections_is_turned_away(tmp_path: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        (monitor,) = found["overload_manager"]["resource_monitors"]
        monitor["typed_config"]["max_active_downstream_connections"] = 3

    files = Files(tmp_path / "unused")
    plain = dict.fromkeys(files.settings)
    async with serving(files, **plain) as (gateway, _), fronted(tmp_path / "envoy", gateway, change) as front:
        links = [socket.create_connection(("127.0.0.1", front.port), 5) for _ in range(4)]
        links[-1].settimeout(5)
        assert await asyncio.to_thread(links[-1].recv, 1) == b""
        links[0].settimeout(0.3)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(links[0].recv, 1)
        for link in links:
            link.close()
