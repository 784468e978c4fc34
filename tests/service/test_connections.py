"""How many may be connected at once: in all by either transport, of one address by ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channels import open_channel
from services.runtime.floor import Floor
from services.runtime.h2.guests import Guests
from services.runtime.settings import ServerSettings
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


def test_places_are_given_back() -> None:
    guests = Guests(3, 2)
    assert [guests.admit(one) for one in ("a", "a", "a", "b", "b")] == [True, True, False, True, False]
    guests.leave("a")
    assert [guests.admit("b"), guests.admit("b")] == [True, False]
    assert all(Guests().admit("a") for _ in range(100))
