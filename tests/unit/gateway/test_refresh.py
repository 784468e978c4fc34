"""Answers computed anew before their end: once at a time, once for all gateways, and nobody waits."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import refresh
from gateway.cache import Cache
from gateway.entry import Entry, pack
from gateway.lru import ByteLRU
from gateway.refresh import Refresher
from services.runtime.context import RequestContext, current, enter
from services.runtime.errors import Unavailable

NOW = 1000.0
KEY = "maas:v1:answer:a:b:{c}"
ENDING = Entry(b"old", NOW - 100, NOW, took_s=1.0)
COSTLY: Any = SimpleNamespace(method=SimpleNamespace(costly=True))
CHEAP: Any = SimpleNamespace(method=SimpleNamespace(costly=False))


class Far:
    """Redis: one lease, and answers."""

    def __init__(self) -> None:
        self.held: str | None = None
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def lock(self, key: str, token: str, life_s: float) -> bool | None:
        if self.held is not None:
            return False
        self.held = token
        return True

    async def unlock(self, key: str, token: str) -> None:
        if self.held == token:
            self.held = None


class Computing:
    """Counts, and waits until told to go on."""

    def __init__(self) -> None:
        self.times = 0
        self.gate = asyncio.Event()
        self.failure: Exception | None = None
        self.contexts: list[RequestContext] = []

    async def __call__(self, named: object) -> None:
        self.times += 1
        self.contexts.append(current())
        await self.gate.wait()
        if self.failure:
            raise self.failure


def made(far: Far | None = None) -> tuple[Refresher, Computing]:
    cache = Cache(ByteLRU(10_000), far, 100.0, 1000, lambda: NOW)  # type: ignore[arg-type]
    computing = Computing()
    return Refresher(cache, computing), computing


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_at_a_time_of_a_key_and_again_when_it_has_ended():
    refresher, computing = made(Far())
    for _ in range(5):
        refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 1
    computing.gate.set()
    await turns()
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 2
    await refresher.close()


async def test_what_has_long_to_live_is_left():
    refresher, computing = made()
    refresher.consider(COSTLY, KEY, Entry(b"new", NOW, NOW + 100, took_s=1.0))
    await turns()
    assert computing.times == 0


async def test_another_gateways_lease_is_respected_and_its_answer_taken():
    far = Far()
    refresher, computing = made(far)
    far.held = "another"
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    far.held = None
    far.values[KEY] = pack(KEY, Entry(b"new", NOW, NOW + 100))
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 0 and far.held is None
    await refresher.close()


async def test_what_is_cheap_asks_for_no_lease():
    far = Far()
    refresher, computing = made(far)
    far.held = "another"
    refresher.consider(CHEAP, KEY, ENDING)
    await turns()
    assert computing.times == 1
    await refresher.close()


async def test_it_has_its_own_time_and_goes_behind_every_caller():
    refresher, computing = made()
    enter(RequestContext(method="m", deadline=0.0, metadata={"x-maas-priority": "critical"}))
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    (seen,) = computing.contexts
    assert seen.deadline is not None and seen.deadline > 0 and seen.method == "m"
    assert seen.metadata == {"x-maas-priority": "batch"} and current().deadline == 0.0
    await refresher.close()


@pytest.mark.parametrize("failure", [Unavailable("no", retry_after_s=1), ValueError("no")])
async def test_a_failure_is_nobodys(failure: Exception):
    far = Far()
    refresher, computing = made(far)
    computing.failure = failure
    computing.gate.set()
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 1 and far.held is None
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 2


async def test_there_are_not_too_many_and_all_end_with_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(refresh, "MOST", 3)
    refresher, computing = made()
    for number in range(5):
        refresher.consider(COSTLY, f"{KEY}{number}", ENDING)
    await turns()
    assert computing.times == 3
    await refresher.close()
    await turns()
    refresher.consider(COSTLY, KEY, ENDING)
    await turns()
    assert computing.times == 4
    await refresher.close()
