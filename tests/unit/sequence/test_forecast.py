"""Forecasts fed back into themselves, side by side, in portions; windows that a net cannot read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.runtime.device import DeviceThread
from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest
from services.sequence import compute
from services.sequence.loaded import SequenceModel
from services.sequence.models.forecast import Ahead, last_window, predict_ahead
from services.sequence.models.net import Net
from services.sequence.settings import SequenceSettings
from tests.unit.sequence.fakes import spec


class FibonacciRunner:
    """The next step is the sum of the window's two; counts the rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.rows.append(len(inputs["window"]))
        return {"next": inputs["window"].sum(axis=1)}

    def close(self) -> None:
        pass


def net_of(runner: FibonacciRunner) -> Net:
    manifest = Manifest(
        name="fibonacci",
        version=1,
        tasks=("sequence.forecast",),
        inputs=(spec("window", -1, 2, 1),),
        outputs=(spec("next", -1, 1),),
    )
    return Net(runner, manifest)


def window(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


def test_each_step_is_fed_back_and_those_who_have_enough_leave() -> None:
    runner = FibonacciRunner()
    parts = [Ahead(window(1, 1), 2), Ahead(window(0, 1), 5), Ahead(window(2, 2), 1)]
    found = [answer[:, 0].tolist() for answer in predict_ahead(net_of(runner), parts)]
    assert found == [[2, 3], [1, 2, 3, 5, 8], [4]]
    assert runner.rows == [3, 2, 1, 1, 1]


async def test_a_long_horizon_takes_turns_and_loses_nothing() -> None:
    runner, device = FibonacciRunner(), DeviceThread("test-device")
    model = SequenceModel(net_of(runner), None, (), device, SequenceSettings(batch_tokens=6))
    try:
        outcome = await compute.foresee(model, window(1, 1), 10)
    finally:
        device.close()
    assert outcome.value[:, 0].tolist() == [2, 3, 5, 8, 13, 21, 34, 55, 89, 144]


def test_only_the_last_window_is_read() -> None:
    manifest = net_of(FibonacciRunner()).manifest
    assert last_window(window(9, 9, 3, 4), manifest, "series")[:, 0].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 1), r"has 1 steps; fibonacci looks at the last 2"), ((4, 3), r"is 3; this model reads 1 values a step")],
)
def test_a_series_that_cannot_be_read_is_refused(shape: tuple[int, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        last_window(np.zeros(shape, np.float32), net_of(FibonacciRunner()).manifest, "series")
