"""How many may be connected at once: in all by either transport, of one address by ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.certs import ensure
from cli.probe import grpc_serving, open_to
from services.runtime.channels import open_channel
from services.runtime.floor import Floor
from services.runtime.h2.guests import Guests
from services.runtime.settings import ServerSettings
from services.runtime.tls.settings import TlsSettings
from tests.service.test_h2 import built

native = pytest.mark.skipif(not built(), reason="needs g++ and libnghttp2.so.14")


@asynccontextmanager
async def serving(**more: Any) -> AsyncIterator[int]:
    floor: Floor[ServerSettings] = Floor(ServerSettings(port=0, lame_duck_s=0, drain_s=0.2, **more))
    port = await floor.start()
    try:
        yield port
    finally:
        await floor.close()


async def answers(port: int) -> bool:
    async with open_channel(f"127.0.0.1:{port}", retry=False) as channel:
        return await asked(channel)


async def asked(channel: Any) -> bool:
    try:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("transport", [pytest.param("native", marks=native), "grpc"])
async def test_more_connections_than_may_be_are_closed_and_those_there_are_stay(transport: str) -> None:
    async with serving(transport=transport, connections=2) as port:
        address = f"127.0.0.1:{port}"
        async with open_channel(address) as first, open_channel(address) as second:
            assert await asked(first) and await asked(second)
            assert not await answers(port)
            assert await asked(first) and await asked(second)
        async with asyncio.timeout(10):
            while not await answers(port):
                await asyncio.sleep(0.01)


@native
async def test_one_address_does_not_take_the_places_of_others() -> None:
    async with serving(connections_of_one=2) as port:
        taken = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(3)]
        # The third hears nothing but the end.
        assert [bool(await reader.read(1)) for reader, _ in taken] == [True, True, False]
        assert await answers(port)
        for _, writer in taken:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


HELLOS = {
    "nothing": b"",
    "half a ClientHello": bytes.fromhex("16030102000100") + b"\x01\xfc\x03\x03",
    "half a preface": b"PRI * HTTP/2.0\r\n",
}


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("transport", [pytest.param("native", marks=native), "grpc"])
async def test_who_connects_and_does_not_say_hello_is_cut_off_and_others_are_served(
    transport: str, tls: bool, tmp_path: Path
) -> None:
    certs = tmp_path / "certs"
    more = {name.removeprefix("MAAS_").lower(): path for name, path in ensure(certs).items()} if tls else {}
    shown = TlsSettings(**more)
    async with serving(transport=transport, handshake_s=0.4, **more) as port:
        address, lines = f"127.0.0.1:{port}", [await asyncio.open_connection("127.0.0.1", port) for _ in HELLOS]
        async with open_to(address, shown) as standing:
            assert await asked(standing)
            for hello, (_, writer) in zip(HELLOS.values(), lines, strict=True):
                writer.write(hello)
            async with asyncio.timeout(5):
                cut = [asyncio.create_task(_end(reader)) for reader, _ in lines]
                while not all(one.done() for one in cut):
                    assert await asked(standing)
                    await asyncio.sleep(0.05)
            assert await grpc_serving(address, shown) and await asked(standing)
        for _, writer in lines:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@native
async def test_handshakes_under_way_are_bounded_as_connections_are(tmp_path: Path) -> None:
    more = {name.removeprefix("MAAS_").lower(): path for name, path in ensure(tmp_path / "certs").items()}
    shown = TlsSettings(**more)
    async with serving(connections=2, handshake_s=30, **more) as port:
        address = f"127.0.0.1:{port}"
        async with open_to(address, shown) as standing:
            assert await asked(standing)
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            async with asyncio.timeout(5):
                await _end(silent[2][0])
            assert not any(reader.at_eof() for reader, _ in silent[:2])
            assert await asked(standing)
            silent[0][1].close()
            async with asyncio.timeout(10):
                while not await grpc_serving(address, shown):
                    await asyncio.sleep(0.01)
        for _, writer in silent:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _end(reader: asyncio.StreamReader) -> None:
    """Returns when the peer has closed."""
    with suppress(ConnectionError):
        while await reader.read(1024):
            pass


def test_places_are_given_back() -> None:
    guests = Guests(3, 2)
    assert [guests.admit(one) for one in ("a", "a", "a", "b", "b")] == [True, True, False, True, False]
    guests.leave("a")
    assert [guests.admit("b"), guests.admit("b")] == [True, False]
    assert all(Guests().admit("a") for _ in range(100))
