"""Redis faults of every kind: a miss, counted, and never the caller's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.redis_cache import RedisCache
from services.runtime.breaker import Breaker
from services.runtime.redis_link import RedisLink

BOUND_S = 0.1


@dataclass
class Faulty:
    """A server that says `words` to whatever it is sent, or closes where there are none left."""

    words: list[bytes]
    port: int = 0
    counted: int = 0
    met: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    serving: list["asyncio.Task[None]"] = field(default_factory=list)

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        self.serving.append(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for word in self.words:
            if not await reader.read(1000):
                break
            self.asked.set()
            writer.write(word)
        writer.close()

    def count(self) -> None:
        self.counted += 1


@asynccontextmanager
async def facing(*words: bytes, faults: int = 100) -> AsyncIterator[tuple[Faulty, RedisCache]]:
    """`words`: after the greeting's."""
    faulty = Faulty([b"+PONG\r\n", *words])
    server = await asyncio.start_server(faulty.meet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cache = RedisCache(RedisLink(f"redis://127.0.0.1:{port}", 1, BOUND_S, Breaker(faults, 60), faulty.count))
    try:
        yield faulty, cache
    finally:
        await cache.close()
        server.close()
        await asyncio.gather(*faulty.serving, return_exceptions=True)


SAID = {
    "gone": (),
    "silent": (b"", b""),
    "an error": (b"-ERR no\r\n", b"-ERR no\r\n"),
    "no protocol": (b"HTTP/1.1 400\r\n", b"HTTP/1.1 400\r\n"),
    "half an answer": (b"$5\r\nab",),
}


@pytest.mark.parametrize("words", SAID.values(), ids=SAID)
async def test_any_fault_is_a_miss_and_counted(words: tuple[bytes, ...]):
    async with facing(*words) as (faulty, cache):
        assert await cache.get("k") is None
        await cache.set("k", b"v", 1)
        assert faulty.counted == 2


async def test_a_server_that_is_not_there_is_a_miss_and_counted():
    counted: list[int] = []
    link = RedisLink("redis://127.0.0.1:1", 0.1, 0.1, Breaker(100, 60), lambda: counted.append(1))
    assert await RedisCache(link).get("k") is None and counted == [1]


async def test_one_that_takes_connections_and_says_nothing_is_a_miss_in_time():
    async with facing() as (faulty, cache):
        faulty.words = [b"", b""]
        async with asyncio.timeout(5):
            assert await cache.get("k") is None
        assert faulty.counted == 1


async def test_faults_of_any_kind_open_the_breaker():
    async with facing(faults=2) as (faulty, cache):
        for _ in range(5):
            assert await cache.get("k") is None
        assert cache.broken and faulty.met == faulty.counted == 2


async def test_a_cancel_is_no_fault():
    async with facing(b"") as (faulty, cache):
        asking = asyncio.create_task(cache.get("k"))
        await faulty.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert faulty.counted == 0


async def test_many_who_wait_for_the_first_connection_share_it():
    async with facing(b"+A\r\n" * 50) as (faulty, cache):
        assert await asyncio.gather(*(cache.get("k") for _ in range(50))) == [b"A"] * 50
        assert faulty.met == 1


async def test_a_connection_that_was_cut_is_made_again_at_once():
    async with facing(b"+A\r\n") as (faulty, cache):
        assert await cache.get("k") == b"A"
        await asyncio.sleep(0.05)
        assert await cache.get("k") == b"A" and (faulty.met, faulty.counted) == (2, 0)
