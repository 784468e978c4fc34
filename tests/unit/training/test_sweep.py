"""A sweep: validation picks, test rows are looked at once, nothing is trained before all plans are right."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from services.runtime.errors import InvalidInput, PreconditionFailed
from training import journal
from training.checkpoint import seed_everything
from training.loop import Job, Progress
from training.plan import Plan, plan_of
from training.recipe import Report
from training.run import Fitted, train
from training.sweep import MOST_POINTS, Point, points_of, sweep


class LinePlan(Plan):
    epochs: int = 2
    batch_size: int = 8
    data: str = ""


@dataclass
class Line:
    """y = 3x on validation rows, y = −3x on test rows: who peeks at the latter chooses another net."""

    plan: Plan
    looks: list[float]
    net: nn.Linear = field(default_factory=lambda: nn.Linear(1, 1))

    def __len__(self) -> int:
        return 32

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.linspace(-1, 1, 32)[indices, None]
        return x, 3 * x

    @property
    def job(self) -> Job:
        return Job(self.net, self, lambda net, rows: self.error(net, 3, rows[0]), self.validate)

    def error(self, net: nn.Module, slope: float, x: Tensor) -> Tensor:
        return nn.functional.mse_loss(net(x), slope * x)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        found = float(self.error(net, 3, torch.ones(4, 1)))
        return {"mse": found, "score": -found}

    def evaluate(self, model: nn.Module) -> Report:
        self.looks.append(self.plan.learning_rate)
        return Report({"mse": float(self.error(model, -3, torch.ones(4, 1)).detach())}, {})

    def fields(self) -> dict[str, Any]:
        return {"provenance": {"source": getattr(self.plan, "data", "")}}

    def labels(self) -> tuple[str, ...]:
        return ()


class Lines:
    """The recipe; `looks` counts how often test rows were seen, and under which step size."""

    name: ClassVar[str] = "lines"
    summary: ClassVar[str] = "a line"
    plan: ClassVar[type[Plan]] = LinePlan

    def __init__(self) -> None:
        self.looks: list[float] = []
        self.begun: list[float] = []

    def begin(self, plan: Plan, fetcher: Any) -> Line:
        self.begun.append(plan.learning_rate)
        seed_everything(plan.seed)
        return Line(plan, self.looks)


RATES = ("0.0001", "0.1", "0.001")


def points(swept: Mapping[str, Any], **chosen: str) -> list[Point]:
    return points_of(LinePlan, {"optimizer": "sgd", "threads": "1", **chosen}, swept)


def fit_in(recipe: Lines, home: Path, tell: Any = lambda _: None) -> Any:
    def fit(point: Point) -> Fitted:
        return train(recipe, point.plan, None, home / point.name, tell)  # type: ignore[arg-type]

    return fit


def test_validation_picks_and_the_test_rows_are_looked_at_once(tmp_path: Path) -> None:
    recipe = Lines()
    swept = sweep(points({"learning_rate": RATES}), fit_in(recipe, tmp_path))
    assert recipe.begun == [0.0001, 0.1, 0.001] and recipe.looks == []
    scores = [outcome.score for outcome in swept.outcomes]
    assert [outcome.chosen for outcome in swept.outcomes] == [False, True, False]
    assert None not in scores and max(scores) == scores[1]  # type: ignore[type-var]
    finished = swept.evaluate()
    assert recipe.looks == [0.1]
    told = finished.report.details["sweep"]
    assert [row["settings"] for row in told] == [{"learning_rate": float(rate)} for rate in RATES]
    assert [row["chosen"] for row in told] == [False, True, False] and told[1]["best_epoch"] == 2
    # On the test rows the slowest learner is the best one, and was not taken.
    others = [
        Line(Plan(), []).evaluate(fit_in(Lines(), tmp_path)(p).model) for p in points({"learning_rate": RATES})
    ]
    assert finished.report.metrics["mse"] == max(report.metrics["mse"] for report in others)


def test_a_killed_sweep_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    class Killed(Exception):
        """Stands for kill -9."""

    whole = sweep(points({"learning_rate": RATES}), fit_in(Lines(), tmp_path / "whole"))
    told: list[Progress] = []

    def kill(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 13:
            raise Killed

    with pytest.raises(Killed):
        sweep(points({"learning_rate": RATES}), fit_in(Lines(), tmp_path / "torn", kill))
    steps: list[Progress] = []
    again = sweep(points({"learning_rate": RATES}), fit_in(Lines(), tmp_path / "torn", steps.append))
    assert [o.score for o in again.outcomes] == [o.score for o in whole.outcomes]
    assert len(steps) == 12  # of 24: the first point is done, the second goes on after its first epoch
    for point in points({"learning_rate": RATES}):
        curves = [journal.read(tmp_path / run / point.name) for run in ("whole", "torn")]
        assert curves[0] == curves[1]


def test_a_grid_has_every_combination_in_a_folder_of_its_own() -> None:
    found = points_of(LinePlan, {}, {"learning_rate": ("1", "2"), "optimizer": ("sgd", "adam")})
    assert [point.label for point in found] == [
        f"learning_rate={rate} optimizer={kind}" for rate in (1.0, 2.0) for kind in ("sgd", "adam")
    ]
    names = {point.name for point in found}
    assert len(names) == 4 and all("/" not in name and " " not in name for name in names)


@pytest.mark.parametrize(
    ("swept", "chosen", "told"),
    [
        ({"learning_rate": ("0.1", "-1")}, {}, "learning_rate: .*greater than 0"),
        ({"learning_rte": ("0.1",)}, {}, "learning_rte: unknown setting"),
        ({"learning_rate": ("0.1", "0.10")}, {}, "stands there twice"),
        ({"learning_rate": ("0.1", "")}, {}, "wants values"),
        ({"learning_rate": ("0.1",)}, {"learning_rate": "1"}, "both set and swept"),
        ({"data": ("a", "b")}, {}, "data decides what the score is measured on"),
        ({"size": ("16", "32")}, {}, "size decides what the score is measured on"),
        ({"seed": tuple(map(str, range(MOST_POINTS + 1)))}, {}, f"{MOST_POINTS} are the most"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_is_trained(
    swept: dict[str, Any], chosen: dict[str, str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        points_of(LinePlan, chosen, swept)


def test_points_that_diverge_never_win_and_other_data_is_refused(tmp_path: Path) -> None:
    wild = points({"learning_rate": ("1e30", "0.001"), "epochs": ("3",)})
    swept = sweep(wild, fit_in(Lines(), tmp_path))
    assert [o.score is None for o in swept.outcomes] == [True, False] and swept.outcomes[1].chosen
    assert "the loss is" in swept.outcomes[0].note and not swept.outcomes[1].note
    with pytest.raises(PreconditionFailed, match="finite"):
        sweep(wild[:1], fit_in(Lines(), tmp_path))
    others = [Point({"x": name}, plan_of(LinePlan, {"data": name})) for name in ("a", "b")]
    with pytest.raises(InvalidInput, match="different data"):
        sweep(others, fit_in(Lines(), tmp_path))
