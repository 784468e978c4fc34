"""Large calls cut into works, and works of many callers computed together."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.runtime.device import DeviceThread
from services.runtime.errors import Overloaded
from services.sequence import compute
from services.sequence.loaded import SequenceModel
from services.sequence.settings import SequenceSettings
from services.sequence.step import Run
from tests.unit.sequence.fakes import HiddenRunner, SumRunner, hidden_net, sum_net

BUDGET = 12


class GatedRunner(SumRunner):
    """Sums like its parent, but waits at the gate before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.entered.set()
        assert self.gate.wait(timeout=20)
        return super().run(inputs)


@pytest.fixture
async def device() -> AsyncIterator[DeviceThread]:
    thread = DeviceThread("test-device")
    yield thread
    thread.close()


def model_of(net: Any, device: DeviceThread, queue: int = 64) -> SequenceModel:
    settings = SequenceSettings(batch_tokens=BUDGET, batch_queue_limit=queue)
    return SequenceModel(net, None, (), device, settings)


def frame(value: float) -> NDArray[np.float32]:
    return np.full((1, 4), value, np.float32)


async def test_rows_come_back_in_order_and_no_work_passes_the_budget(device: DeviceThread) -> None:
    runner = HiddenRunner()
    rows = [np.full(length, length, np.int64) for length in (7, 1, 12, 3, 3, 20, 5, 2, 9)]
    outcome = await compute.answer_rows(model_of(hidden_net(runner), device), rows)
    assert [answer[0] for answer in outcome.value] == [7, 1, 12, 3, 3, 20, 5, 2, 9]
    over = [shape for shape in runner.shapes if shape[0] > 1 and shape[0] * shape[1] > 2 * BUDGET]
    assert not over


async def test_long_streams_are_heard_in_portions_with_their_state_carried(device: DeviceThread) -> None:
    runner = SumRunner()
    streams = [np.random.default_rng(n).integers(-9, 9, (n, 4)).astype(np.float32) for n in (40, 3, 17)]
    outcome = await compute.listen(model_of(sum_net(runner), device), streams)
    for stream, scores in zip(streams, outcome.value, strict=True):
        assert scores[:, 0].tolist() == stream.sum(axis=1).cumsum().tolist()
    assert sum(runner.rows) == 60


async def test_steps_that_arrive_while_the_device_works_share_the_next_batch(device: DeviceThread) -> None:
    runner = GatedRunner()
    model = model_of(sum_net(runner), device)
    steps = [asyncio.create_task(_step(model, value)) for value in (1, 2, 3, 4)]
    await asyncio.to_thread(runner.entered.wait, 20)
    steps += [asyncio.create_task(_step(model, value)) for value in (5, 6)]
    await asyncio.sleep(0)
    steps[1].cancel()
    runner.gate.set()
    done = await asyncio.gather(*steps, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert [d for i, d in enumerate(done) if i != 1] == [(4, 1), (12, 4), (16, 4), (20, 4), (24, 4)]
    assert runner.rows == [1, 4]


async def test_works_are_computed_beside_each_other_where_there_are_lanes() -> None:
    class Meeting(SumRunner):
        """Ends a step only when two are inside."""

        inside = threading.Barrier(2)

        def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            self.inside.wait(timeout=20)
            return super().run(inputs)

    lanes = DeviceThread("test-lanes", count=2)
    try:
        model = model_of(sum_net(Meeting()), lanes)
        assert await asyncio.gather(_step(model, 1), _step(model, 2)) == [(4, 1), (8, 1)]
    finally:
        lanes.close()


async def test_a_full_queue_refuses(device: DeviceThread) -> None:
    runner = GatedRunner()
    model = model_of(sum_net(runner), device, queue=1)
    first = asyncio.create_task(_step(model, 1))
    await asyncio.to_thread(runner.entered.wait, 20)
    second = asyncio.create_task(_step(model, 2))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await _step(model, 3)
    runner.gate.set()
    assert await asyncio.gather(first, second) == [(4, 1), (8, 1)]


async def test_closing_ends_what_was_accepted(device: DeviceThread) -> None:
    runner = GatedRunner()
    model = model_of(sum_net(runner), device)
    steps = [asyncio.create_task(_step(model, value)) for value in (1, 2)]
    await asyncio.to_thread(runner.entered.wait, 20)
    closing = asyncio.create_task(model.close())
    runner.gate.set()
    assert [total for total, _ in await asyncio.gather(*steps)] == [4, 8]
    await closing


async def _step(model: SequenceModel, value: float) -> tuple[float, int]:
    outcome = await compute.step(model, Run(frame(value), model.net.fresh_state()))
    return outcome.value.scores.item(), outcome.batch_size
