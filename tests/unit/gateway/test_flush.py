"""Flushing beside reads, writes and other gateways, with a dictionary for Redis that answers when it is let."""

import asyncio

import pytest

from gateway import flush
from gateway.cache import Cache
from gateway.cache_control import CacheControl
from gateway.cache_key import PREFIX, cache_key
from gateway.flush import Flusher
from gateway.lru import ByteLRU
from gateway.versions import ModelIndex
from maas.gateway.v1 import gateway_service_pb2
from services.runtime.redis_link import NoAnswer

PLAIN = CacheControl()
ONE, OTHER = (cache_key("/s/M", model, "d", "", b"c") for model in ("one", "other"))


class Far:
    """Redis as the cache sees it; `gate` holds up reads and writes."""

    broken = False

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.flushes: int | None = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, key: str) -> bytes | None:
        found = self.values.get(key)
        await self.gate.wait()
        return found

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        await self.gate.wait()
        self.values[key] = value

    async def flush(self, pattern: str) -> int:
        gone = [key for key in self.values if key.startswith(pattern.rstrip("*:")) and PREFIX in pattern]
        for key in gone:
            del self.values[key]
        return len(gone)

    async def epoch(self) -> int:
        if self.flushes is None:
            raise NoAnswer
        return self.flushes

    async def advance(self) -> int:
        self.flushes = await self.epoch() + 1
        return self.flushes

    async def close(self) -> None:
        """Nothing to close."""


def made(far: Far) -> tuple[Cache, Flusher]:
    cache = Cache(ByteLRU(10_000), far, 100.0, 1000)
    return cache, Flusher(cache, ModelIndex())


async def flushed(flusher: Flusher, **scope: object) -> tuple[int, int]:
    reply = await flusher.flush(gateway_service_pb2.FlushCacheRequest(**scope))
    return reply.removed_l1, reply.removed_l2


async def test_a_read_that_ends_after_the_flush_is_not_kept():
    far = Far()
    cache, flusher = made(far)
    cache.store(ONE, b"reply")
    await cache.written()
    cache.drop(lambda _: True)
    far.gate.clear()
    reading = asyncio.create_task(cache.far(ONE, PLAIN))
    await asyncio.sleep(0)
    assert await flushed(flusher, all=True) == (0, 1)
    far.gate.set()
    assert (await reading) is not None
    assert cache.near(ONE, PLAIN) is None


async def test_a_write_under_way_is_waited_for_and_goes_too():
    far = Far()
    cache, flusher = made(far)
    far.gate.clear()
    cache.store(ONE, b"reply")
    flushing = asyncio.create_task(flushed(flusher, all=True))
    await asyncio.sleep(0.01)
    assert not flushing.done()
    far.gate.set()
    assert await flushing == (1, 1)


async def test_anothers_flush_that_was_not_seen_yet_is_not_taken_for_an_own():
    far = Far()
    cache, flusher = made(far)
    cache.store(OTHER, b"reply")
    await far.advance()
    await flushed(flusher, tenant="nobody")
    assert cache.near(OTHER, PLAIN) is None


async def test_an_own_flush_costs_no_more_than_it_covers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flush, "LOOK_EVERY_S", 0.005)
    cache, flusher = made(far := Far())
    await flusher.start()
    cache.store(OTHER, b"reply")
    await flushed(flusher, tenant="nobody")
    await asyncio.sleep(0.05)
    assert cache.near(OTHER, PLAIN) is not None
    far.flushes = None
    await asyncio.sleep(0.05)
    assert cache.near(OTHER, PLAIN) is not None
    far.flushes = 7
    async with asyncio.timeout(5):
        while cache.near(OTHER, PLAIN) is not None:
            await asyncio.sleep(0.005)
    await flusher.close()
