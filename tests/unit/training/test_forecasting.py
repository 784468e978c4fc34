"""Windows end before what they must not see; naive forecasts and skill by hand; a net that learns a sine."""

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
