"""One stream, many readers: each gets all of it at its own pace, and memory stays bounded whatever they do."""

import asyncio
import time
from typing import Any

import pytest

from gateway.streams.flight import MOST_TURNS, Flight, Source
from gateway.streams.recording import WINDOW, Recording, Shelf
from services.runtime.context import RequestContext, enter
from services.runtime.errors import DeadlinePassed, PreconditionFailed, ServiceError, Unavailable

LARGE = b"x" * (WINDOW // 2)


async def taken(recording: Recording, after: int = 0, deadline: float | None = None) -> list[bytes]:
    return [message async for message in recording.read(after, deadline)]


def recording(most: int = 1 << 20, shelf: Shelf | None = None) -> Recording:
    return Recording(shelf or Shelf(), most, lambda: None)


async def soon() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_comes_gets_all_and_whoever_says_where_the_rest():
    one = recording()
    early = asyncio.create_task(taken(one))
    await soon()
    one.add(b"a")
    late, rest = asyncio.create_task(taken(one)), asyncio.create_task(taken(one, 1))
    await soon()
    one.add(b"b")
    one.end()
    assert await early == await late == [b"a", b"b"] and await rest == [b"b"]
    assert await taken(one) == [b"a", b"b"] and await taken(one, 2) == []


async def test_an_error_comes_after_what_was_told():
    one = recording()
    one.add(b"a")
    one.end(Unavailable("gone"))
    told = one.read(0, None)
    assert await anext(told) == b"a"
    with pytest.raises(Unavailable):
        await anext(told)


async def test_a_reader_has_its_own_deadline():
    one = recording()
    patient = asyncio.create_task(taken(one))
    with pytest.raises(DeadlinePassed):
        await taken(one, deadline=time.monotonic() + 0.01)
    one.end()
    assert await patient == []


async def test_beyond_the_cap_the_fastest_reader_sets_the_pace_and_who_lags_is_told():
    shelf = Shelf()
    one = recording(WINDOW, shelf)
    fast, slow = one.read(0, None), one.read(0, None)
    one.add(b"0")
    await anext(fast)
    await anext(slow)
    for _ in range(2):
        one.add(LARGE)
    assert not one.whole
    blocked = asyncio.create_task(one.room())
    await soon()
    assert shelf.used <= WINDOW + 1 and blocked.done()
    one.add(LARGE)
    blocked = asyncio.create_task(one.room())
    await soon()
    assert not blocked.done()
    assert [await anext(fast) for _ in range(2)] == [LARGE, LARGE]
    await asyncio.wait_for(blocked, 5)
    assert shelf.used <= WINDOW
    with pytest.raises(Unavailable) as caught:
        await anext(slow)
    assert caught.value.reason == "STREAM_LAGGED"
    assert await anext(fast) == LARGE
    one.forget()
    assert shelf.used == 0


async def test_all_recordings_together_are_bounded():
    shelf = Shelf(most=10)
    first, second = recording(100, shelf), recording(100, shelf)
    first.add(b"x" * 8)
    assert first.whole
    second.add(b"x" * 8)
    assert first.whole and not second.whole


def source(*turns: Any) -> tuple[Source, list[int], list[list[bytes]]]:
    """A turn is what is told, then how it ends."""
    asked: list[int] = []
    kept: list[list[bytes]] = []

    async def opened(told: int) -> Any:
        asked.append(told)
        for step in turns[len(asked) - 1]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step

    async def keep(messages: list[bytes]) -> None:
        kept.append(list(messages))

    return Source(opened, lambda _: True, keep), asked, kept


def flight(shelf: Shelf | None = None) -> Flight:
    return Flight(shelf or Shelf(), 1 << 20)


async def flown(one: Flight, made: Source) -> list[bytes]:
    reader = asyncio.create_task(taken(one.recording))
    await soon()
    one.start(made)
    return await reader


async def test_a_stream_that_ends_well_is_kept_and_then_forgotten():
    made, _, kept = source([b"a", b"b"])
    shelf = Shelf()
    one = flight(shelf)
    assert await flown(one, made) == [b"a", b"b"]
    await soon()
    assert kept == [[b"a", b"b"]] and shelf.used == 0 and not one.joinable


async def in_time(one: Flight, made: Source, seconds: float) -> None:
    """Starts it as a call does that has so much time."""
    enter(RequestContext(deadline=time.monotonic() + seconds))
    one.start(made)


@pytest.mark.parametrize("end", [PreconditionFailed("taken", reason="STREAM_TAKEN_OVER"), DeadlinePassed("late")])
async def test_it_goes_on_where_another_took_it_over_or_the_first_had_too_little_time(end: ServiceError):
    made, asked, kept = source([b"a", end], [b"b"])
    one = flight()
    reader = asyncio.create_task(taken(one.recording, deadline=time.monotonic() + 60))
    await soon()
    await asyncio.create_task(in_time(one, made, 1))
    assert await reader == [b"a", b"b"]
    await soon()
    assert asked == [0, 1] and kept == [[b"a", b"b"]]


async def test_it_does_not_go_on_for_nobody_or_without_end():
    taken_over = PreconditionFailed("taken", reason="STREAM_TAKEN_OVER")
    for turns, tries in (([DeadlinePassed("late")],), 1), (([taken_over],) * 99, MOST_TURNS):
        made, asked, kept = source(*turns)
        with pytest.raises(ServiceError):
            await flown(flight(), made)
        assert len(asked) == tries and not kept


async def test_what_cannot_be_resumed_says_so():
    made, asked, kept = source([b"a", PreconditionFailed("", reason="STREAM_TAKEN_OVER")], [Unavailable("no")])
    with pytest.raises(Unavailable) as caught:
        await flown(flight(), made)
    assert caught.value.reason == "STREAM_BROKEN" and asked == [0, 1] and not kept


async def test_what_is_wrong_inside_ends_it_and_tells_nobody_more():
    made, _, _ = source([b"a", ValueError("secret")])
    with pytest.raises(ServiceError) as caught:
        await flown(flight(), made)
    assert "secret" not in caught.value.message


async def test_the_last_reader_ends_it():
    gate, shelf = asyncio.Event(), Shelf()
    made, _, kept = source([b"a", gate, b"b"])
    one = flight(shelf)
    readers = [asyncio.create_task(taken(one.recording)) for _ in range(2)]
    await soon()
    task = one.start(made)
    await soon()
    readers[0].cancel()
    await soon()
    assert one.joinable and not task.done()
    readers[1].cancel()
    await soon()
    assert not one.joinable and task.cancelled() and not kept and shelf.used == 0
