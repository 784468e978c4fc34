"""Where work runs, what it reports, and that nobody computes for a caller who has gone."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from services.runtime import context
from services.runtime.errors import DeadlinePassed
from services.tokenization.pool import INLINE_SIZE, Pool

Check = Callable[[], None]


def here(check: Check) -> threading.Thread:
    check()
    return threading.current_thread()


async def test_small_work_runs_here_and_large_work_on_a_thread() -> None:
    pool = Pool(1)
    small = await pool.run(here, INLINE_SIZE)
    large = await pool.run(here, INLINE_SIZE + 1)
    assert small.value is threading.current_thread()
    assert large.value.name.startswith("tokenizer")
    await pool.close()


async def test_the_loop_stays_free_while_large_work_runs() -> None:
    pool, gate = Pool(1), threading.Event()
    # The gate is opened by the loop itself: this would never end if the loop waited for the work.
    running = pool.run(lambda _: gate.wait(30), INLINE_SIZE + 1, items=7)
    gate.set()
    outcome = await running
    assert outcome.value
    assert outcome.batch_size == 7
    assert outcome.queue_ms >= 0
    assert outcome.compute_ms >= 0
    await pool.close()


@pytest.mark.parametrize("size", [0, INLINE_SIZE + 1])
async def test_work_past_its_deadline_is_not_begun(size: int) -> None:
    pool, done = Pool(1), []
    context.enter(context.RequestContext(deadline=time.monotonic() - 1))
    with pytest.raises(DeadlinePassed):
        await pool.run(lambda _: done.append(1), size)
    assert not done
    await pool.close()


async def test_errors_of_the_work_reach_the_caller() -> None:
    pool = Pool(1)
    for size in (0, INLINE_SIZE + 1):
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda _: 1 // 0, size)
    await pool.close()


class Looping:
    """Work without an end but the one that its check gives it."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self, check: Check) -> None:
        self.begun.set()
        try:
            while True:
                check()
        finally:
            self.ended.set()


async def test_work_ends_when_its_caller_leaves() -> None:
    pool, work = Pool(1), Looping()
    call = asyncio.create_task(pool.run(work, INLINE_SIZE + 1))
    assert await asyncio.to_thread(work.begun.wait, 30)
    call.cancel()
    assert await asyncio.to_thread(work.ended.wait, 30)
    with pytest.raises(asyncio.CancelledError):
        await call
    await pool.close()


async def test_work_ends_when_its_deadline_passes() -> None:
    pool, work = Pool(1), Looping()
    context.enter(context.RequestContext(deadline=time.monotonic() + 0.05))
    with pytest.raises(DeadlinePassed):
        await pool.run(work, INLINE_SIZE + 1)
    assert work.ended.is_set()
    await pool.close()
