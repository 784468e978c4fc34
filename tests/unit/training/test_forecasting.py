"""Windows end before what they must not see; naive forecasts and skill by hand; a net that learns a sine."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.runtime.errors import InvalidInput
from services.sequence.models.rnn import RnnForecaster
from training import forecasting
from training.checkpoint import seed_everything
from training.data.series import SplitSeries
from training.data.sunspots import read_csv
from training.loop import Loop
from training.plan import Plan
from training.plots import forecast


def sine(steps: int = 120) -> SplitSeries:
    values = 50 + 30 * np.sin(np.arange(steps) * 2 * np.pi / 10)
    return SplitSeries(values[:, None], 80, 100, 10, "made")


def training(split: SplitSeries) -> forecasting.ForecastTraining:
    seed_everything(1)
    config = {"features": 1, "hidden_size": 6}
    return forecasting.ForecastTraining(RnnForecaster(config), split, 12, 5, "rnn_forecaster", config)


def test_no_training_row_and_no_statistic_knows_a_held_out_year() -> None:
    plain, other = sine(), sine()
    other.values[80:] += 1e6
    one, two = training(plain), training(other)
    assert one.fields()["preprocessing"] == two.fields()["preprocessing"]
    rows, same = one.job.rows, two.job.rows
    assert len(rows) == 80 - 12
    for index in (0, len(rows) - 1):
        for a, b in zip(rows.take(torch.tensor([index])), same.take(torch.tensor([index])), strict=True):
            assert torch.equal(a, b)
    first, target = rows.take(torch.tensor([0]))
    assert torch.equal(first[0, :, 0], torch.from_numpy(one.scaling.apply(plain.values[:12]))[:, 0])
    assert torch.equal(target[0], torch.from_numpy(one.scaling.apply(plain.values[12])))


def test_naive_forecasts() -> None:
    known = np.arange(7.0)[:, None]
    assert forecasting.last_value(known, 3)[:, 0].tolist() == [6, 6, 6]
    assert forecasting.seasonal_naive(known, 5, 3)[:, 0].tolist() == [4, 5, 6, 4, 5]


def test_the_fed_back_forecast_sees_its_own_steps() -> None:
    class Sum(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor]:
            return (windows.sum(1),)

    found = forecasting.roll_out(Sum(), torch.tensor([[[1.0], [1.0]]]), 4)
    assert found[0, :, 0].tolist() == [2, 3, 5, 8]


def test_a_sine_is_learnt_and_beats_the_last_value(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    work = training(sine())
    Loop(work.job, Plan(epochs=40, batch_size=16, learning_rate=0.02), tmp_path).run()
    report = work.evaluate(work.net)
    assert report.metrics["mse"] < 0.1 * report.baseline["mse"]
    assert report.metrics["skill_over_last_value"] > 0.9
    naive = np.mean(np.diff(sine().values[99:, 0]) ** 2)
    assert report.baseline["mse"] == pytest.approx(naive)


@pytest.mark.parametrize("row", ["1702,nan", "1702,-1", "1703,4", "1702,many", "1702"])
def test_a_corrupt_row_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "spots.csv"
    path.write_text(f"YEAR,SUNACTIVITY\n1700,5\n1701,11\n{row}\n")
    with pytest.raises(InvalidInput, match=r"spots.csv"):
        read_csv(path)


def test_the_report_is_by_period_and_holds_what_is_drawn() -> None:
    split = replace(sine(), times=np.arange(1890.0, 2010), groups={"sky": ["clear", "dim"] * 60})
    work = training(split)
    report = work.evaluate(work.net)
    assert {name: group["count"] for name, group in report.slices["period"].items()} == {
        "1990 to 1999": 10,
        "2000 to 2009": 10,
    }
    weighted = sum(group["mse"] * group["count"] for group in report.slices["sky"].values()) / 20
    assert weighted == pytest.approx(report.metrics["mse"])
    drawn = json.loads(json.dumps(report.details))["forecast"]
    assert drawn["times"] == list(range(1990, 2010)) and drawn["ahead_times"] == list(range(2005, 2010))
    assert (
        drawn["truth"] == split.values[100:, 0].tolist() and drawn["last_value"] == split.values[99:-1, 0].tolist()
    )
    near = (np.array(drawn["predicted"]) - split.values[100:, 0]) ** 2
    assert near.mean() == pytest.approx(report.metrics["mse"])
    assert forecast(**drawn).axes[0].get_xlabel() == "time"


def test_a_series_that_stands_still_has_no_skill_to_tell() -> None:
    split = SplitSeries(np.full((60, 1), 7.0), 40, 50, 1, "made")
    work = training(split)
    report = work.evaluate(work.net)
    assert report.baseline["mse"] == 0 and list(report.metrics) == ["mse", "mse_5_steps"]
    assert json.loads(json.dumps(dict(report.metrics), allow_nan=False))
