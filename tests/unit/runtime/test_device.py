"""The handover between an event loop and the threads of a device: one ending for each run, whatever it is."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from services.runtime.device import DeviceThread


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    made = DeviceThread("test-device")
    yield made
    made.close()


async def test_runs_come_one_after_another_on_one_named_thread(device: DeviceThread) -> None:
    inside, seen = 0, []

    def run(number: int) -> int:
        nonlocal inside
        inside += 1
        assert inside == 1
        seen.append((number, threading.current_thread().name))
        inside -= 1
        return number * 2

    assert await asyncio.gather(*(device.run(run, n) for n in range(50))) == [n * 2 for n in range(50)]
    assert seen == [(n, "test-device") for n in range(50)]


async def test_several_threads_work_beside_each_other() -> None:
    device, meeting = DeviceThread("pair", count=2), threading.Barrier(2)
    try:
        assert sorted(await asyncio.gather(*(device.run(meeting.wait, 10) for _ in range(2)))) == [0, 1]
    finally:
        device.close()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), StopIteration(3)])
async def test_what_a_function_raises_is_its_caller_s_and_the_thread_goes_on(
    device: DeviceThread, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    wanted = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(wanted):
        await asyncio.wait_for(device.run(fail), 5)
    assert await device.run(int, "7") == 7


async def test_a_caller_who_left_stops_nothing_that_runs_and_saves_what_does_not(device: DeviceThread) -> None:
    began, go, ran = threading.Event(), threading.Event(), []

    def hold() -> None:
        began.set()
        go.wait(5)
        ran.append("held")

    running, waiting = device.run(hold), device.run(ran.append, "waiting")
    await asyncio.to_thread(began.wait, 5)
    running.cancel()
    waiting.cancel()
    go.set()
    assert await device.run(lambda: list(ran)) == ["held"]


async def test_closing_ends_what_runs_and_drops_what_waits() -> None:
    device, began, go = DeviceThread("closing"), threading.Event(), threading.Event()

    def hold() -> str:
        began.set()
        go.wait(5)
        return "done"

    running, waiting = device.run(hold), device.run(str, "never")
    await asyncio.to_thread(began.wait, 5)
    closing = asyncio.ensure_future(asyncio.to_thread(device.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not running.done()
    go.set()
    assert await running == "done"
    await closing
    with pytest.raises(asyncio.CancelledError):
        await device.run(str, "late")


async def test_nothing_of_a_finished_run_is_kept(device: DeviceThread) -> None:
    class Pixels:
        pass

    pixels = Pixels()
    seen = weakref.ref(pixels)
    await device.run(id, pixels)
    del pixels
    await asyncio.sleep(0.05)
    gc.collect()
    assert seen() is None


def test_a_loop_that_is_gone_does_not_end_the_thread(device: DeviceThread) -> None:
    began, go = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go.wait(5)

    async def leave() -> None:
        device.run(hold)
        await asyncio.to_thread(began.wait, 5)

    asyncio.run(leave())
    go.set()

    async def ask() -> int:
        return await device.run(int, "5")

    assert asyncio.run(ask()) == 5
