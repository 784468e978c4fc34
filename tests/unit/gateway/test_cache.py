"""The tiers and the control words, with a dictionary for Redis and a clock that stands still."""

import asyncio

import pytest

from gateway.cache import JITTER, Cache
from gateway.cache_control import CacheControl
from gateway.entry import Entry, pack
from gateway.lru import ByteLRU
from services.runtime.errors import InvalidInput

PLAIN = CacheControl()


class Far:
    """Redis as the cache sees it."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.lives: dict[str, float] = {}
        self.gets = 0

    async def get(self, key: str) -> bytes | None:
        self.gets += 1
        return self.values.get(key)

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        await asyncio.sleep(0)
        self.values[key], self.lives[key] = value, life_s

    async def close(self) -> None:
        """Nothing to close."""


class Now:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def cache(far: Far, now: Now, value_bytes: int = 1000) -> Cache:
    return Cache(ByteLRU(10_000), far, 100.0, value_bytes, now, lambda low, high: high)  # type: ignore[arg-type]


async def test_an_answer_is_near_at_once_and_far_after_closing():
    far, now = Far(), Now()
    tiers = cache(far, now)
    tiers.store("k", b"reply")
    assert tiers.near("k", PLAIN) == Entry(b"reply", 1000.0, 1000.0 + 100 * (1 + JITTER))
    await tiers.close()
    assert far.lives["k"] == pytest.approx(110)
    found = await cache(far, now).far("k", PLAIN)
    assert found is not None and found.reply == b"reply"


async def test_what_was_far_is_near_from_then_on():
    far, now = Far(), Now()
    far.values["k"] = pack("k", Entry(b"reply", 900.0, 1100.0))
    tiers = cache(far, now)
    assert tiers.near("k", PLAIN) is None
    found = await tiers.far("k", PLAIN)
    assert found is not None and tiers.age_s(found) == 100
    assert tiers.near("k", PLAIN) == found and far.gets == 1


async def test_nothing_outlives_its_end_in_either_tier():
    far, now = Far(), Now()
    tiers = cache(far, now)
    tiers.store("k", b"reply")
    await tiers.close()
    now.time += 110
    assert tiers.near("k", PLAIN) is None and len(tiers.l1) == 0
    assert await tiers.far("k", PLAIN) is None


async def test_an_answer_too_old_for_the_caller_is_left_for_others():
    far, now = Far(), Now()
    tiers = cache(far, now)
    tiers.store("k", b"reply")
    now.time += 10
    assert tiers.near("k", CacheControl(max_age_s=9)) is None
    assert tiers.near("k", CacheControl(max_age_s=10)) is not None
    assert tiers.near("k", CacheControl(no_cache=True)) is None


async def test_an_answer_over_the_cap_is_not_kept():
    far, now = Far(), Now()
    tiers = cache(far, now, value_bytes=4)
    tiers.store("k", b"reply")
    await tiers.close()
    assert tiers.near("k", PLAIN) is None and not far.values


async def test_without_redis_the_process_remembers_alone():
    tiers = Cache(ByteLRU(10_000), None, 100.0, 1000)
    tiers.store("k", b"reply")
    assert tiers.near("k", PLAIN) is not None and await tiers.far("x", PLAIN) is None
    await tiers.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CacheControl()),
        ("no-cache", CacheControl(no_cache=True)),
        ("No-Store , max-age=5", CacheControl(no_store=True, max_age_s=5)),
        ("only-if-cached,max-age=0", CacheControl(only_if_cached=True, max_age_s=0)),
        ("private, stale-if-error=3", CacheControl()),
    ],
)
def test_control_words_as_http_reads_them(text: str, expected: CacheControl):
    assert CacheControl.parse(text) == expected


@pytest.mark.parametrize("text", ["max-age=", "max-age=-1", "max-age=1.5", "max-age=soon", "max-age=²"])
def test_an_age_that_is_no_number_is_refused(text: str):
    with pytest.raises(InvalidInput, match="cache-control"):
        CacheControl.parse(text)
