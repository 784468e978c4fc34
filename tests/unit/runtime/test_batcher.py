"""The micro-batcher's law: one ending for each item, whatever happens to its neighbours. A gate, not a clock."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.batcher import MicroBatcher
from services.runtime.device import DeviceThread
from services.runtime.errors import DeadlinePassed, InvalidInput, Overloaded, Unavailable


class Gate:
    """Runs batches only when opened, and remembers them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.batches: list[list[Any]] = []

    async def execute(self, run: Callable[[list[Any]], Any], items: list[Any]) -> Any:
        self.batches.append(items)
        await self.open.wait()
        return run(items)


class Counts:
    """Why items were skipped."""

    def __init__(self) -> None:
        self.why: list[str] = []

    def queued(self, depth: int) -> None: ...

    def skipped(self, why: str) -> None:
        self.why.append(why)

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None: ...


def double(items: list[int]) -> list[int | Exception]:
    return [item * 2 if item >= 0 else InvalidInput("item", "is negative") for item in items]


def batcher(gate: Gate, **options: Any) -> MicroBatcher[int, int]:
    return MicroBatcher(double, execute=gate.execute, budget=options.pop("budget", 8), **options)


async def started(*calls: Awaitable[Any]) -> list["asyncio.Task[Any]"]:
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_item_does_not_wait_for_company() -> None:
    gate = Gate()
    gate.open.set()
    outcome = await batcher(gate).submit(3)
    assert (outcome.value, outcome.batch_size) == (6, 1)


async def test_what_arrives_while_the_device_is_busy_travels_together() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(*(b.submit(i) for i in range(5)))
    assert gate.batches == [[0]]
    gate.open.set()
    outcomes = await asyncio.gather(*tasks)
    assert [o.value for o in outcomes] == [0, 2, 4, 6, 8]
    assert gate.batches == [[0], [1, 2, 3, 4]]


async def test_budget_counts_cost_and_what_does_not_fit_goes_first_next_time() -> None:
    gate = Gate()
    b = batcher(gate, budget=10, cost=lambda item: item)
    tasks = await started(*(b.submit(i) for i in (1, 6, 5, 4)))
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.batches == [[1], [6], [5, 4]]


async def test_groups_never_mix() -> None:
    gate = Gate()
    b = batcher(gate, group=lambda item: item % 2)
    tasks = await started(*(b.submit(i) for i in range(6)))
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.batches == [[0], [1, 3, 5], [2, 4]]


async def test_one_bad_item_fails_alone() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(*(b.submit(i) for i in (1, 2, -3, 4)))
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(r, "value", type(r)) for r in results] == [2, 4, InvalidInput, 8]


async def test_a_cancelled_caller_is_skipped_and_its_neighbours_live() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(*(b.submit(i) for i in range(4)))
    tasks[2].cancel()
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.batches == [[0], [1, 3]]
    assert isinstance(results[2], asyncio.CancelledError)
    assert [r.value for i, r in enumerate(results) if i != 2] == [0, 2, 6]  # type: ignore[union-attr]


async def test_cancelled_while_computing_harms_nobody() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(b.submit(1), b.submit(2), b.submit(3))
    tasks[0].cancel()
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(r, "value", None) for r in results] == [None, 4, 6]


async def test_expired_items_are_never_computed() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(b.submit(1), b.submit(2, deadline=time.monotonic() - 1), b.submit(3))
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], DeadlinePassed)
    assert gate.batches == [[1], [3]]


async def test_a_full_queue_refuses_at_once() -> None:
    gate = Gate()
    b = batcher(gate, queue_limit=2)
    tasks = await started(*(b.submit(i) for i in range(3)))
    with pytest.raises(Overloaded) as refused:
        await b.submit(9)
    assert refused.value.retry_after_s
    gate.open.set()
    assert len(await asyncio.gather(*tasks)) == 3


async def test_those_who_left_or_are_too_late_make_room() -> None:
    gate = Gate()
    b = batcher(gate, queue_limit=4)
    first, *gone = await started(*(b.submit(i) for i in range(3)))
    late = await started(*(b.submit(i, deadline=time.monotonic() - 1) for i in range(2)))
    for task in gone:
        task.cancel()
    (live,) = await started(b.submit(9))
    gate.open.set()
    assert (await live).value == 18
    assert (await first).value == 0
    assert [type(r) for r in await asyncio.gather(*late, return_exceptions=True)] == [DeadlinePassed] * 2
    assert gate.batches == [[0], [9]]


@pytest.mark.parametrize("given", [0, 1, 4])
async def test_a_wrong_number_of_results_fails_every_item(given: int) -> None:
    async def execute(run: Any, items: list[int]) -> Any:
        return [7] * (given if len(items) > 1 else 1)

    b: MicroBatcher[int, int] = MicroBatcher(double, execute=execute, budget=4)
    tasks = await started(*(b.submit(i) for i in range(4)))
    ended, hanging = await asyncio.wait(tasks, timeout=5)
    assert not hanging
    assert tasks[0].result().value == 7
    assert all(isinstance(task.exception(), RuntimeError) for task in tasks[1:])


async def test_a_device_closed_under_a_queued_batch_leaves_nobody_waiting() -> None:
    device = DeviceThread("test")
    busy, go = threading.Event(), threading.Event()

    def run(items: list[int]) -> list[int]:
        busy.set()
        go.wait(5)
        return items

    b: MicroBatcher[int, int] = MicroBatcher(run, execute=device.run, budget=1, parallel=2)
    tasks = await started(b.submit(1), b.submit(2))
    await asyncio.to_thread(busy.wait, 5)
    closing = asyncio.ensure_future(asyncio.to_thread(device.close))
    _, hanging = await asyncio.wait(tasks[1:], timeout=5)
    assert not hanging
    go.set()
    await closing
    await asyncio.wait(tasks, timeout=5)
    assert tasks[0].result().value == 1
    assert isinstance(tasks[1].exception(), Unavailable)


async def test_a_failing_device_fails_the_batch_and_not_the_batcher() -> None:
    async def broken(run: Any, items: list[int]) -> Any:
        if 1 in items:
            raise RuntimeError("out of memory")
        return run(items)

    b: MicroBatcher[int, int] = MicroBatcher(double, execute=broken, budget=4)
    with pytest.raises(RuntimeError):
        await b.submit(1)
    assert (await b.submit(2)).value == 4


async def test_close_ends_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    b = batcher(gate)
    tasks = await started(*(b.submit(i) for i in range(3)))
    tasks[1].cancel()
    closing = asyncio.ensure_future(b.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await b.submit(5)
    gate.open.set()
    await closing
    assert (await tasks[0]).value == 0
    assert (await tasks[2]).value == 4


@given(st.lists(st.tuples(st.integers(-3, 20), st.booleans()), max_size=40), st.integers(1, 30), st.integers(1, 3))
def test_every_item_gets_exactly_its_own_ending(work: list[tuple[int, bool]], budget: int, parallel: int) -> None:
    async def run() -> None:
        gate = Gate()
        b = batcher(gate, budget=budget, cost=abs, group=lambda i: i % 3, parallel=parallel)
        tasks = await started(*(b.submit(item) for item, _ in work))
        for task, (_, leaves) in zip(tasks, work, strict=True):
            if leaves:
                task.cancel()
        gate.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for (item, leaves), result in zip(work, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                assert leaves
            elif item < 0:
                assert isinstance(result, InvalidInput)
            else:
                assert result.value == item * 2  # type: ignore[union-attr]

    asyncio.run(run())


async def test_free_places_share_what_is_there_at_once() -> None:
    gate = Gate()
    b = batcher(gate, parallel=3, budget=4)
    (task,) = await started(b.submit_all(range(7)))
    assert gate.batches == [[0, 1, 2], [3, 4], [5, 6]]
    gate.open.set()
    assert [outcome.value for outcome in await task] == [0, 2, 4, 6, 8, 10, 12]


async def test_little_is_not_shared_out() -> None:
    gate = Gate()
    b = batcher(gate, parallel=2, budget=8, least=4)
    (task,) = await started(b.submit_all(range(3)))
    assert gate.batches == [[0, 1, 2]]
    gate.open.set()
    await task
    (task,) = await started(b.submit_all(range(10)))
    assert gate.batches[1:] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    await task


async def test_a_share_never_exceeds_the_budget_and_a_free_place_takes_what_waits() -> None:
    gates = [asyncio.Event() for _ in range(8)]
    batches: list[list[int]] = []

    async def execute(run: Any, items: list[int]) -> Any:
        batches.append(items)
        await gates[len(batches) - 1].wait()
        return run(items)

    b: MicroBatcher[int, int] = MicroBatcher(double, execute=execute, budget=4, parallel=2)
    tasks = await started(b.submit_all(range(20)), b.submit(20))
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
    gates[1].set()  # one place is free, the other works on
    await asyncio.sleep(0.01)
    assert batches[2:] == [[8, 9, 10, 11]]
    for gate in gates:
        gate.set()
    assert [o.value for o in await tasks[0]] == [n * 2 for n in range(20)] and (await tasks[1]).value == 40


async def test_once_narrow_it_runs_one_batch_at_a_time() -> None:
    gate = Gate()
    b = batcher(gate, budget=1, parallel=2, ahead=2)
    b.narrow()
    tasks = await started(b.submit(1), b.submit(2))
    assert gate.batches == [[1]]
    gate.open.set()
    assert [outcome.value for outcome in await asyncio.gather(*tasks)] == [2, 4]


async def test_no_place_stays_free_while_work_waits() -> None:
    """Whatever comes and ends in whatever order, a place is free only when nothing waits."""
    running: dict[int, asyncio.Event] = {}

    async def execute(run: Any, items: list[int]) -> Any:
        running[items[0]] = asyncio.Event()
        await running[items[0]].wait()
        del running[items[0]]
        return run(items)

    b: MicroBatcher[int, int] = MicroBatcher(double, execute=execute, budget=3, parallel=2)
    tasks: list[asyncio.Task[Any]] = []
    for number in range(60):
        tasks += await started(b.submit(number))
        if number % 3 == 2:
            next(iter(running.values())).set()
        for _ in range(6):
            await asyncio.sleep(0)
        assert len(running) == 2 or not b._waiting
    while not all(task.done() for task in tasks):
        for event in running.values():
            event.set()
        await asyncio.sleep(0)
    assert [task.result().value for task in tasks] == [n * 2 for n in range(60)]


async def test_a_batch_sees_whether_anything_runs_or_waits_beside_it() -> None:
    gate, seen = Gate(), []

    def execute(run: Any, items: list[int]) -> Any:
        seen.append((items, b.idle))
        return gate.execute(run, items)

    b: MicroBatcher[int, int] = MicroBatcher(double, execute=execute, budget=1, parallel=2)
    assert b.idle
    tasks = await started(b.submit(1))
    assert not b.idle
    tasks += await started(b.submit(2), b.submit(3))
    gate.open.set()
    assert [outcome.value for outcome in await asyncio.gather(*tasks)] == [2, 4, 6]
    await b.submit_all([7, 8])
    assert seen == [([1], True), ([2], False), ([3], False), ([7], False), ([8], False)]
    assert b.idle


async def test_the_first_error_takes_back_what_still_waits() -> None:
    gate = Gate()
    b = batcher(gate, budget=1)
    (task,) = await started(b.submit_all([-1, 2, 3, 4]))
    gate.open.set()
    with pytest.raises(InvalidInput):
        await task
    assert (await b.submit(5)).value == 10
    assert [4] not in gate.batches and gate.batches[-1] == [5]


async def test_one_who_leaves_takes_all_of_his_along_and_nobody_elses() -> None:
    gate = Gate()
    b = batcher(gate, budget=2)
    first, gone, last = await started(b.submit(0), b.submit_all([1, 2, 3]), b.submit(4))
    gone.cancel()
    gate.open.set()
    assert (await first).value == 0 and (await last).value == 8
    assert gate.batches == [[0], [4]]


async def test_many_are_taken_in_whole_or_not_at_all() -> None:
    gate = Gate()
    b = batcher(gate, queue_limit=3, budget=1)
    (task,) = await started(b.submit_all([1, 2, 3]))
    with pytest.raises(Overloaded):
        await b.submit_all([4, 5])
    gate.open.set()
    assert [outcome.value for outcome in await task] == [2, 4, 6] and gate.batches == [[1], [2], [3]]


async def test_full_batches_wait_in_the_line_of_the_device_and_no_others() -> None:
    gate = Gate()
    b = batcher(gate, budget=2, ahead=2)
    tasks = await started(*(b.submit(i) for i in range(4)))
    assert gate.batches == [[0], [1, 2]], "3 is no full batch"
    tasks += await started(*(b.submit(i) for i in range(4, 9)))
    assert gate.batches == [[0], [1, 2], [3, 4]], "two ahead of the one that runs are the most"
    gate.open.set()
    assert [o.value for o in await asyncio.gather(*tasks)] == [2 * i for i in range(9)]
    assert gate.batches[3:] == [[5, 6], [7, 8]]


async def test_who_gave_up_while_the_batch_stood_in_line_is_not_computed() -> None:
    device, free, computed = DeviceThread("test"), threading.Event(), list[int]()
    counted = Counts()

    def run(items: list[int]) -> list[int | Exception]:
        free.wait(5)
        computed.extend(items)
        return double(items)

    b: MicroBatcher[int, int] = MicroBatcher(run, execute=device.run, budget=4, ahead=1, observer=counted)
    first, left, late, stays, wrong = await started(
        b.submit(1), b.submit(2), b.submit(3, time.monotonic() + 0.05), b.submit(4), b.submit(-5)
    )
    left.cancel()
    await asyncio.sleep(0.06)
    free.set()
    ends = await asyncio.gather(first, left, late, stays, wrong, return_exceptions=True)
    device.close()
    assert computed == [1, 4, -5]
    assert [type(end).__name__ for end in ends[1:]] == [
        "CancelledError",
        "DeadlinePassed",
        "Outcome",
        "InvalidInput",
    ]
    assert (await stays).value == 8
    assert (await stays).batch_size == 2
    assert sorted(counted.why) == ["cancelled", "deadline"]
