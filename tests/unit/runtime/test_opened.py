"""Opened once, for all who ask; a failure is not kept."""

import asyncio

import pytest

from services.runtime.opened import Opened


async def test_all_get_the_one_thing_and_after_closing_a_new_one() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    opened = Opened(make)
    assert made == []
    assert set(await asyncio.gather(*(opened.get() for _ in range(5)))) == {made[0]}
    opened.close()
    assert await opened.get() is made[1] and len(made) == 2


async def test_what_failed_is_tried_again() -> None:
    outcomes = iter([ValueError("not yet"), 7])

    def make() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    opened = Opened(make)
    with pytest.raises(ValueError, match="not yet"):
        await opened.get()
    assert await opened.get() == 7
