"""Paths that meet past errors again: balanced, repeatable, ever wider; quantiles that hold and never cross."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from services.runtime.device import DeviceThread
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.sequence import compute
from services.sequence.loaded import SequenceModel
from services.sequence.models import spread
from services.sequence.models.net import Net
from services.sequence.settings import SequenceSettings
from tests.unit.sequence.fakes import spec
from training.coverage import Series, coverage

SKEWED = np.random.default_rng(1).exponential(1, (40, 1)).astype(np.float32) - 1


class WalkRunner:
    """The next step is the last one; counts the rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.rows.append(len(inputs["window"]))
        return {"next": inputs["window"][:, -1]}

    def close(self) -> None:
        pass


def manifest(**files: str) -> Manifest:
    return Manifest(
        name="walk",
        version=1,
        tasks=("sequence.forecast",),
        inputs=(spec("window", -1, 3, 1),),
        outputs=(spec("next", -1, 1),),
        files=files,
    )


def last(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    return windows[:, -1]


def window(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


@pytest.mark.parametrize("residuals", [10, 40, 59, 400])
def test_every_error_is_met_equally_often_in_each_step(residuals: int) -> None:
    drawn = spread.draw(residuals, 7)
    assert drawn.shape[1] >= spread.LEAST_PATHS
    for row in drawn:
        assert np.bincount(row).tolist() == [drawn.shape[1] // residuals] * residuals
    assert any((one != other).any() for one, other in pairwise(drawn))


def test_fewer_steps_are_the_first_of_more() -> None:
    assert np.array_equal(spread.draw(40, 5), spread.draw(40, 90)[:5])


def test_one_step_ahead_the_quantiles_are_those_of_the_errors() -> None:
    paths = spread.wander(last, window(1, 2, 5), SKEWED, 1)
    found = spread.quantiles(paths, (0.1, 0.5, 0.9))[:, 0, 0]
    wanted = np.quantile(np.repeat(SKEWED[:, 0] + np.float32(5), 10), (0.1, 0.5, 0.9))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_errors_add_up_over_the_horizon() -> None:
    paths = spread.wander(last, window(0, 0, 0), SKEWED, 25)
    widths = paths[:, :, 0].std(axis=1)
    np.testing.assert_allclose(widths / SKEWED.std(), np.sqrt(np.arange(1, 26)), rtol=0.12)


def test_a_higher_quantile_is_nowhere_lower_and_the_order_is_the_caller_s() -> None:
    wanted = np.random.default_rng(2).permutation(np.linspace(0.01, 0.99, 32)).tolist()
    paths = np.random.default_rng(3).normal(size=(6, 400, 3)).round(1).astype(np.float32)  # many ties
    found = spread.quantiles(paths, wanted)
    assert (np.diff(found[np.argsort(wanted)], axis=0) >= 0).all()
    for quantile, said in zip(wanted, found, strict=True):
        np.testing.assert_allclose(said, np.quantile(paths, quantile, axis=1), atol=1e-6)


@pytest.mark.parametrize("budget", [3, 100, 10_000])
async def test_portions_change_no_path(budget: int) -> None:
    runner, device = WalkRunner(), DeviceThread("test-device")
    model = SequenceModel(Net(runner, manifest()), None, (), device, SequenceSettings(batch_tokens=budget))
    try:
        outcome = await compute.stray(model, window(1, 2, 3), SKEWED, spread.draw(40, 4))
    finally:
        device.close()
    assert np.array_equal(np.stack(outcome.value), spread.wander(last, window(1, 2, 3), SKEWED, 4))
    assert max(runner.rows) <= max(1, budget // 3) and sum(runner.rows) == 4 * 400


def test_quantiles_hold_for_a_process_that_is_known() -> None:
    """x(t+1) = 0.8 x(t) + e, e skewed: of the steps to come as many lie below as the quantile says."""
    errors = np.random.default_rng(4).exponential(1, (3000, 1)).astype(np.float32) - 1
    series = np.zeros_like(errors)
    for at in range(1, len(series)):
        series[at] = 0.8 * series[at - 1] + errors[at]
    known = Series(series, range(1000, 3000, 5), 1)
    told = coverage(lambda windows: np.float32(0.8) * windows[:, -1], known, (1, 8), errors[:400])
    for horizon, tolerance in (("one_step", 0.04), ("8_steps", 0.08)):
        assert [told[horizon][quantile] for quantile in ("0.1", "0.5", "0.9")] == pytest.approx(
            [0.1, 0.5, 0.9], abs=tolerance
        )


def test_errors_are_kept_with_the_version_and_none_of_few(tmp_path: Path) -> None:
    spread.save(SKEWED, tmp_path)
    assert np.array_equal(spread.load(manifest(**{spread.FILE: ""}), tmp_path), SKEWED)
    assert spread.load(manifest(), tmp_path) is None
    (tmp_path / spread.FILE).unlink()
    spread.save(SKEWED[:9], tmp_path)
    assert not list(tmp_path.iterdir()) and len(spread.kept(9)) == 0


def test_of_many_errors_some_are_kept_from_the_first_to_the_last() -> None:
    places = spread.kept(1999)
    assert (len(places), places[0], places[-1]) == (spread.MOST_RESIDUALS, 0, 1998)
    assert set(np.diff(places)) <= {5, 6}


@pytest.mark.parametrize(
    "errors",
    [SKEWED[:9], SKEWED.astype(np.float64), np.tile(SKEWED, 2), SKEWED[:, 0], SKEWED * np.float32(np.nan)],
)
def test_errors_that_cannot_be_the_version_s_are_refused(tmp_path: Path, errors: NDArray[Any]) -> None:
    save_file({spread.KEY: np.ascontiguousarray(errors)}, tmp_path / spread.FILE)
    with pytest.raises(PreconditionFailed, match="publish it anew"):
        spread.load(manifest(**{spread.FILE: ""}), tmp_path)
