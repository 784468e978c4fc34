"""The first answer wins, the other try ends, and nothing is left running."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.overload.race import race

SOON, NEVER = 0.01, 60.0


class Tries:
    """What was started, and how each ended."""

    def __init__(self) -> None:
        self.ends: dict[str, str] = {}

    async def one(self, name: str, seconds: float, error: Exception | None = None) -> str:
        self.ends[name] = "begun"
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.ends[name] = "cancelled"
            raise
        self.ends[name] = "ended"
        if error is not None:
            raise error
        return name


@pytest.fixture
def tries() -> Tries:
    return Tries()


def second(tries: Tries, seconds: float, error: Exception | None = None) -> Callable[[], Coroutine[Any, Any, str]]:
    return lambda: tries.one("second", seconds, error)


async def alone() -> None:
    """Returns once no other task is left."""
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def test_a_fast_first_is_alone(tries: Tries) -> None:
    assert await race(tries.one("first", 0), SOON, second(tries, 0)) == "first"
    assert tries.ends == {"first": "ended"}


async def test_a_slow_first_loses_and_ends(tries: Tries) -> None:
    assert await race(tries.one("first", NEVER), SOON, second(tries, 0)) == "second"
    await alone()
    assert tries.ends == {"first": "cancelled", "second": "ended"}


async def test_the_first_may_still_win(tries: Tries) -> None:
    assert await race(tries.one("first", 2 * SOON), SOON, second(tries, NEVER)) == "first"
    await alone()
    assert tries.ends == {"first": "ended", "second": "cancelled"}


async def test_without_a_second_the_first_is_waited_for(tries: Tries) -> None:
    assert await race(tries.one("first", 2 * SOON), SOON, lambda: None) == "first"


async def test_a_failed_first_leaves_it_to_the_second(tries: Tries) -> None:
    begun = tries.one("first", 2 * SOON, ValueError())
    assert await race(begun, SOON, second(tries, 3 * SOON)) == "second"


async def test_a_failed_second_leaves_it_to_the_first(tries: Tries) -> None:
    begun = tries.one("first", 4 * SOON)
    assert await race(begun, SOON, second(tries, SOON, ValueError())) == "first"


async def test_two_failures_are_that_of_the_first(tries: Tries) -> None:
    begun = tries.one("first", 4 * SOON, ValueError("the first"))
    with pytest.raises(ValueError, match="the first"):
        await race(begun, SOON, second(tries, SOON, ValueError("the second")))


@pytest.mark.parametrize("after", [0.5, 3.0])
async def test_a_caller_who_leaves_takes_both_along(tries: Tries, after: float) -> None:
    task = asyncio.create_task(race(tries.one("first", NEVER), SOON, second(tries, NEVER)))
    await asyncio.sleep(after * SOON)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await alone()
    assert set(tries.ends.values()) == {"cancelled"}
