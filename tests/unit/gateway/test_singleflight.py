"""One computation a key, with a gate instead of a clock."""

import asyncio

import pytest

from gateway.singleflight import SingleFlight


class Work:
    """Counts how often it runs and waits for its gate."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.runs


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_ten_callers_one_computation():
    flights, work = SingleFlight[int](), Work()
    callers = [asyncio.create_task(flights.do("k", work)) for _ in range(10)]
    await settle()
    assert "k" in flights
    work.gate.set()
    assert await asyncio.gather(*callers) == [1] * 10
    await settle()
    assert "k" not in flights
    assert await flights.do("k", work) == 2


async def test_different_keys_do_not_wait_for_each_other():
    flights, stuck, free = SingleFlight[int](), Work(), Work()
    waiting = asyncio.create_task(flights.do("stuck", stuck))
    free.gate.set()
    assert await flights.do("free", free) == 1
    stuck.gate.set()
    assert await waiting == 1


async def test_the_leaders_cancel_strands_nobody():
    flights, work = SingleFlight[int](), Work()
    leader, *followers = [asyncio.create_task(flights.do("k", work)) for _ in range(4)]
    await settle()
    leader.cancel()
    await settle()
    work.gate.set()
    assert await asyncio.gather(*followers) == [1] * 3
    assert leader.cancelled() and work.cancelled == 0


async def test_the_last_one_out_cancels_and_a_newcomer_starts_anew():
    flights, work = SingleFlight[int](), Work()
    callers = [asyncio.create_task(flights.do("k", work)) for _ in range(3)]
    await settle()
    for caller in callers:
        caller.cancel()
    newcomer = asyncio.create_task(flights.do("k", work))
    await settle()
    work.gate.set()
    assert await newcomer == 2
    assert work.cancelled == 1
    await settle()
    assert "k" not in flights


async def test_the_work_is_cancelled_when_nobody_waits():
    flights, work = SingleFlight[int](), Work()
    caller = asyncio.create_task(flights.do("k", work))
    await settle()
    caller.cancel()
    await settle()
    assert work.cancelled == 1 and "k" not in flights
    again = asyncio.create_task(flights.do("k", work))
    work.gate.set()
    assert await again == 2


async def test_a_failure_reaches_every_caller_and_is_not_kept():
    flights, work = SingleFlight[int](), Work()
    work.error = ValueError("no")
    callers = [asyncio.create_task(flights.do("k", work)) for _ in range(3)]
    await settle()
    work.gate.set()
    assert all(isinstance(end, ValueError) for end in await asyncio.gather(*callers, return_exceptions=True))
    work.error = None
    assert await flights.do("k", work) == 2


async def test_a_failure_after_everybody_left_is_silent():
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    flights = SingleFlight[int]()

    async def stubborn() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while being cancelled")

    caller = asyncio.create_task(flights.do("k", stubborn))
    await settle()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await settle()
    import gc

    gc.collect()
    assert complaints == []


async def test_a_flight_that_has_ended_is_not_joined_while_it_is_still_in_the_table():
    flights = SingleFlight[int]()
    seen: list[tuple[bool, bool]] = []

    async def newcomer() -> int:
        seen.append(("k" in flights, leader.done()))
        return await flights.do("k", lambda: asyncio.sleep(0, 2))

    async def failing() -> int:
        await asyncio.sleep(0)
        # Its first step comes before the callbacks of the task that ends here.
        newcomers.append(asyncio.create_task(newcomer()))
        raise ValueError("over")

    newcomers: list[asyncio.Task[int]] = []
    leader = asyncio.create_task(flights.do("k", failing))
    with pytest.raises(ValueError, match="over"):
        await leader
    assert await newcomers[0] == 2
    assert seen == [(False, False)]
