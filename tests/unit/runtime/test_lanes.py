"""Lanes compute beside each other, never more than there are, and say when nobody computes."""

import asyncio
import threading

import pytest

from services.runtime.lanes import Lanes


async def test_as_many_compute_at_once_as_there_are_lanes() -> None:
    lanes, gate, begun = Lanes("test", 2), threading.Event(), threading.Semaphore(0)

    def work(number: int) -> int:
        begun.release()
        assert gate.wait(5)
        return number

    tasks = [asyncio.ensure_future(lanes.run(work, number)) for number in range(3)]
    for _ in range(2):
        assert await asyncio.to_thread(begun.acquire, timeout=5)
    assert not await asyncio.to_thread(begun.acquire, timeout=0.05)  # the third waits for a lane
    gate.set()
    assert await asyncio.gather(*tasks) == [0, 1, 2]
    lanes.close()


async def test_idle_until_something_is_to_compute_and_after_it_failed() -> None:
    lanes, gate = Lanes("test", 1), threading.Event()
    assert lanes.idle
    task = asyncio.ensure_future(lanes.run(gate.wait, 5))
    await asyncio.sleep(0)
    assert not lanes.idle
    gate.set()
    assert await task and lanes.idle
    with pytest.raises(ZeroDivisionError):
        await lanes.run(lambda: 1 / 0)
    assert lanes.idle
    lanes.close()
