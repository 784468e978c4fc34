"""Forecasters: windows of a series, squared error, skill against naive forecasts. Knows no architecture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.sequence.models import spread
from services.sequence.models.scaling import Scaling
from training import metrics
from training.coverage import Series, coverage
from training.data.cut import named
from training.data.series import SplitSeries, periods
from training.loop import Job
from training.publish import write_weights
from training.recipe import Report
from training.windows import WindowRows, roll_out, squared_error

Values = NDArray[np.float64]


class ForecastTraining:
    """A net that maps standard scores [B, window, features] to (the next step's,), on one series cut in time.

    Training windows and targets end before the validation's first target, and the statistics of the standard
    score are theirs alone; a held-out target may look back at earlier years, as a forecaster does.
    """

    def __init__(
        self,
        net: nn.Module,
        split: SplitSeries,
        window: int,
        horizon: int,
        architecture: str,
        config: dict[str, Any],
    ) -> None:
        self.net, self.split, self.window, self.horizon = net, split, window, horizon
        self._architecture, self._config = architecture, config
        self.scaling = Scaling.of(split.values[: split.validation_from])
        self._scores = self.scaling.apply(split.values)

    @property
    def job(self) -> Job:
        return Job(self.net, self._rows(self.window, self.split.validation_from), squared_error, self._validate)

    def evaluate(self, model: nn.Module) -> Report:
        """MSE in the data's unit, one step ahead and over the horizon, beside last value and seasonal naive."""
        near, far = self._forecasts(model, 1), self._forecasts(model, self.horizon)
        found, later = near.errors(), far.errors()
        scored = {
            "mse": found["model"],
            "skill_over_last_value": skill(found, "last_value"),
            "skill_over_seasonal": skill(found, "seasonal"),
            f"mse_{self.horizon}_steps": later["model"],
            f"skill_over_seasonal_{self.horizon}_steps": skill(later, "seasonal"),
        }
        naive = {"mse": found["last_value"], f"mse_{self.horizon}_steps": later["last_value"]}
        details = {
            "one_step": found,
            f"{self.horizon}_steps": later,
            "test_targets": self._test_count,
            "left_out": named(self.split.left_out),
            "gaps": list(self.split.gaps),
            "forecast": self._drawn(near, far),
            "quantiles": self._quantiles(model),
        }
        return Report({k: v for k, v in scored.items() if math.isfinite(v)}, naive, self._slices(near), details)

    def write(self, model: nn.Module, directory: Path) -> None:
        """The weights, and beside them the errors that quantiles are told from."""
        write_weights(model, directory)
        spread.save(self._errors(model), directory)

    def fields(self) -> dict[str, Any]:
        split, features = self.split, self._scores.shape[1]
        columns = {"columns": list(split.columns)} if split.columns else {}
        return {
            "tasks": ["sequence.forecast"],
            "architecture": self._architecture,
            "config": self._config,
            "inputs": [{"name": "window", "dtype": "float32", "shape": [-1, self.window, features]}],
            "outputs": [{"name": "next", "dtype": "float32", "shape": [-1, features]}],
            "preprocessing": {"kind": "series", **self.scaling.fields(), **columns, **self._told()},
            "provenance": {"source": split.source, "sha256": split.sha256, "notes": split.told()},
        }

    def data(self) -> dict[str, Any]:
        return {"parts": self.split.parts(), "left_out": dict(self.split.left_out)}

    def labels(self) -> tuple[str, ...]:
        return ()

    @property
    def _test_count(self) -> int:
        return len(self.split.values) - self.split.test_from

    def _rows(self, first: int, end: int) -> WindowRows:
        return WindowRows(self._scores, self.window, first, end)

    def _validate(self, model: nn.Module) -> dict[str, float]:
        rows = self._rows(self.split.validation_from, self.split.test_from)
        error = metrics.mean_squared_error(model(rows.windows)[0].numpy(), rows.targets.numpy())
        return {"mse": error, "score": -error}

    def _errors(self, model: nn.Module) -> NDArray[np.float32]:
        """What the published version keeps of its errors on the validation rows, to which it was not fitted."""
        rows = self._rows(self.split.validation_from, self.split.test_from)
        errors: NDArray[np.float32] = rows.targets.numpy() - roll_out(model, rows.windows, 1)[:, 0]
        return errors[self._kept]

    @property
    def _kept(self) -> NDArray[np.intp]:
        return spread.kept(self.split.test_from - self.split.validation_from)

    def _told(self) -> dict[str, Any]:
        """Of which steps the errors are that it keeps."""
        steps = self.split.axis[self.split.validation_from :][self._kept]
        return (
            {"residuals": len(steps), "residuals_of": f"{steps[0]:.6g} to {steps[-1]:.6g}"} if len(steps) else {}
        )

    def _quantiles(self, model: nn.Module) -> dict[str, Any]:
        """How often the test rows lie below what the published version will say."""
        series = Series(self._scores, range(self.split.test_from, len(self._scores)), self.window)
        return coverage(partial(_step, model), series, (1, self.horizon), self._errors(model))

    def _forecasts(self, model: nn.Module, steps: int) -> "Forecasts":
        """Each forecaster from all test origins from which `steps` steps are known."""
        values, first, last = self.split.values, self.split.test_from, len(self.split.values) - steps
        origins = range(first, last + 1)
        windows = self._rows(first, last + 1).windows
        said = {
            "model": self.scaling.undo(roll_out(model, windows, steps)).astype(np.float64),
            "last_value": np.stack([last_value(values[:at], steps) for at in origins]),
            "seasonal": np.stack([seasonal_naive(values[:at], steps, self.split.season) for at in origins]),
        }
        return Forecasts(np.stack([values[at : at + steps] for at in origins]), said)

    def _slices(self, near: "Forecasts") -> dict[str, dict[str, dict[str, float]]]:
        """One step ahead: by period of time, by the data's own groups, and by column where there are several."""
        split, squares = self.split, (near.said["model"] - near.truth)[:, 0] ** 2
        groups = {"period": periods(split.axis[split.test_from :])}
        groups |= {name: list(cells[split.test_from :]) for name, cells in split.groups.items()}
        found = {name: _by_group(squares, cells) for name, cells in groups.items()}
        if squares.shape[1] > 1:
            found["column"] = {name: _told(squares[:, [i]]) for i, name in enumerate(split.columns)}
        return found

    def _drawn(self, near: "Forecasts", far: "Forecasts") -> dict[str, list[float]]:
        """Of the first column: the test steps, each foretold from those before it, and the last long forecast."""
        axis = self.split.axis
        return {
            "times": axis[self.split.test_from :].tolist(),
            "truth": near.truth[:, 0, 0].tolist(),
            "predicted": near.said["model"][:, 0, 0].tolist(),
            "last_value": near.said["last_value"][:, 0, 0].tolist(),
            "ahead_times": axis[len(axis) - self.horizon :].tolist(),
            "ahead": far.said["model"][-1, :, 0].tolist(),
        }


@dataclass(frozen=True, slots=True)
class Forecasts:
    """float64 [origins, steps, features] in the data's unit: what came, and what each forecaster said."""

    truth: Values
    said: Mapping[str, Values]

    def errors(self) -> dict[str, float]:
        """MSE of each forecaster."""
        return {name: metrics.mean_squared_error(found, self.truth) for name, found in self.said.items()}


def skill(errors: Mapping[str, float], naive: str) -> float:
    """Forecast skill of the model over `naive`; not finite where that makes no error."""
    return metrics.skill(errors["model"], errors[naive]) if errors[naive] else math.nan


def _by_group(squares: Values, cells: Sequence[str]) -> dict[str, dict[str, float]]:
    names = np.asarray(cells)
    return {str(name): _told(squares[names == name]) for name in dict.fromkeys(cells)}


def _told(squares: Values) -> dict[str, float]:
    return {"mse": float(squares.mean()), "count": float(len(squares))}


def _step(model: nn.Module, past: NDArray[np.float32]) -> NDArray[np.float32]:
    return roll_out(model, torch.from_numpy(past), 1)[:, 0]


def last_value(known: Values, steps: int) -> Values:
    """Persistence: [steps, features] all equal to the last of `known`."""
    return np.repeat(known[-1:], steps, 0)


def seasonal_naive(known: Values, steps: int, season: int) -> Values:
    """ŷ_{T+h} = y_{T+h−m(⌊(h−1)/m⌋+1)}, m = season (Hyndman & Athanasopoulos, Forecasting, 5.2)."""
    return known[len(known) - season + np.arange(steps) % season]
