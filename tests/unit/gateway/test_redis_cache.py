"""Redis faults of every kind: a miss, counted, and never the caller's."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from redis.exceptions import ConnectionError

from gateway.redis_cache import RedisCache
from services.runtime.breaker import Breaker
from services.runtime.redis_link import RedisLink


class Faulty:
    """A cache whose connection raises, and how often that was counted."""

    def __init__(self, error: BaseException, faults: int = 100) -> None:
        self.counted = 0
        link = RedisLink("redis://127.0.0.1:1", 0.1, 0.1, Breaker(faults, 60), self._count)
        self.cache = RedisCache(link)
        self.client = AsyncMock()
        self.client.get.side_effect = self.client.set.side_effect = error
        link._client = self.client

    def _count(self) -> None:
        self.counted += 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("gone"),
        OSError("gone"),
        TimeoutError(),
        # uvloop's word for a connection that was cut meanwhile.
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
        ValueError("invalid literal for int() with base 10"),
    ],
)
async def test_any_fault_is_a_miss_and_counted(error: Exception):
    faulty = Faulty(error)
    assert await faulty.cache.get("k") is None
    await faulty.cache.set("k", b"v", 1)
    assert faulty.counted == 2


async def test_faults_of_any_kind_open_the_breaker():
    faulty = Faulty(RuntimeError("closed"), faults=2)
    for _ in range(5):
        assert await faulty.cache.get("k") is None
    assert faulty.cache.broken and faulty.client.get.await_count == 2


async def test_a_cancel_is_no_fault():
    faulty = Faulty(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await faulty.cache.get("k")
    assert faulty.counted == 0
