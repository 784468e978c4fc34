"""Overlap keeps the order, bounds what is begun, and leaves nothing running."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.runtime.overlap import overlapped


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_answers_stand_in_the_order_of_the_questions() -> None:
    async def handle(number: int) -> int:
        for _ in range(20 - number):  # later items end earlier
            await asyncio.sleep(0)
        return number * 2

    assert [answer async for answer in overlapped(numbers(20), handle, 8)] == [n * 2 for n in range(20)]


async def test_items_overlap_up_to_the_window() -> None:
    gate, begun = asyncio.Event(), []

    async def handle(number: int) -> int:
        begun.append(number)
        await gate.wait()
        return number

    answers = overlapped(numbers(100), handle, 4)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(begun) == 6  # window + 2, not 100 and not 1
    gate.set()
    assert await first == 0
    assert [answer async for answer in answers] == list(range(1, 100))


async def test_an_items_error_comes_in_its_place() -> None:
    async def handle(number: int) -> int:
        if number == 3:
            raise ValueError("third")
        await asyncio.sleep(0)
        return number

    got = []
    with pytest.raises(ValueError, match="third"):
        async for answer in overlapped(numbers(10), handle, 8):
            got.append(answer)  # noqa: PERF401
    assert got == [0, 1, 2]


async def test_an_error_of_reading_comes_after_the_answers() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("unreadable")

    async def handle(number: int) -> int:
        return number

    got = []
    with pytest.raises(ValueError, match="unreadable"):
        async for answer in overlapped(broken(), handle, 8):
            got.append(answer)  # noqa: PERF401
    assert got == [1]


async def test_leaving_early_cancels_what_runs() -> None:
    ended: list[int] = []

    async def handle(number: int) -> int:
        if number == 0:
            return number
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)
        return number

    before = asyncio.all_tasks()
    async with aclosing(overlapped(numbers(3), handle, 8)) as answers:
        assert await anext(answers) == 0
        for _ in range(10):
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(ended) == [1, 2] and asyncio.all_tasks() == before
