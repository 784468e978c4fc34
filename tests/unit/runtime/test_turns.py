"""Long work takes turns: interleaved, bounded, ended by its deadline."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from services.runtime.device import DeviceThread
from services.runtime.errors import DeadlinePassed, Overloaded
from services.runtime.turns import Turns


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    device = DeviceThread("turns")
    yield device
    device.close()


async def test_two_callers_alternate(device: DeviceThread) -> None:
    turns, order = Turns(device, 2), []

    async def work(name: str) -> None:
        with turns.take(None) as turn:
            for _ in range(3):
                await turn.run(order.append, name)

    await asyncio.gather(work("a"), work("b"))
    assert order == ["a", "b"] * 3


async def test_a_part_does_not_begin_after_the_deadline(device: DeviceThread) -> None:
    done: list[int] = []
    with Turns(device, 1).take(time.monotonic() + 60) as turn:
        await turn.run(done.append, 1)
        turn.deadline = time.monotonic()
        with pytest.raises(DeadlinePassed, match="after 1 parts"):
            await turn.run(done.append, 2)
    assert done == [1]


async def test_more_than_the_limit_are_refused_until_one_leaves(device: DeviceThread) -> None:
    turns = Turns(device, 1)
    with turns.take(None), pytest.raises(Overloaded), turns.take(None):
        pass
    with pytest.raises(RuntimeError), turns.take(None) as turn:
        await turn.run(_fail)
    with turns.take(None) as turn:
        assert await turn.run(max, 3, 4) == 4


async def test_the_outcome_tells_compute_from_waiting(device: DeviceThread) -> None:
    with Turns(device, 1).take(None) as turn:
        await turn.run(time.sleep, 0.01)
        outcome = turn.outcome("done")
    assert (outcome.value, outcome.batch_size) == ("done", 1)
    assert outcome.compute_ms >= 10 and outcome.queue_ms >= 0


def _fail() -> None:
    raise RuntimeError
