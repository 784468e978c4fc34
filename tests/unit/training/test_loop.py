"""The loop resumes to the same curve after a kill at any step, stops when told, and keeps the best weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.runtime.errors import InvalidInput
from training import journal
from training.checkpoint import seed_everything
from training.loop import Job, Loop, Progress, epoch_order
from training.plan import Plan, plan_of


class Points:
    """y = 3x − 1 with noise."""

    def __init__(self, count: int = 50) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(count, 1, generator=generator)
        self.y = 3 * self.x - 1 + 0.01 * torch.randn(count, 1, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]


def job(scores: list[float] | None = None) -> Job:
    seed_everything(3)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
    given = iter(scores or [])

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(net(batch[0]), batch[1])

    def validate(net: nn.Module) -> dict[str, float]:
        points = Points(20)
        error = float(nn.functional.mse_loss(net(points.x), points.y))
        return {"mse": error, "score": next(given, -error)}

    return Job(model, Points(), loss, validate)


PLAN = Plan(epochs=4, batch_size=8, learning_rate=0.02, schedule="cosine", warmup_steps=3, checkpoint_s=1e-9)


class Killed(Exception):
    """Stands for kill -9: nothing of the loop runs after it."""


@pytest.mark.parametrize("after", [1, 6, 7, 8, 20])
def test_a_killed_run_continues_the_same_curve(tmp_path: Path, after: int) -> None:
    whole = job()
    Loop(whole, PLAN, tmp_path / "whole").run()

    def kill(progress: Progress) -> None:
        if progress.step == after:
            raise Killed

    with pytest.raises(Killed):
        Loop(job(), PLAN, tmp_path / "killed", kill).run()
    torch.manual_seed(999)
    resumed = job()
    torch.manual_seed(999)
    Loop(resumed, PLAN, tmp_path / "killed").run()
    assert journal.read(tmp_path / "killed") == journal.read(tmp_path / "whole")
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_patience_stops_and_the_best_weights_stay(tmp_path: Path) -> None:
    worked = job([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    plan = PLAN.model_copy(update={"epochs": 10, "patience": 2})
    place = Loop(worked, plan, tmp_path).run()
    assert place.best == 0.5
    assert place.epoch == 4
    epochs = [line for line in journal.read(tmp_path) if line["kind"] == "epoch"]
    best: Any = epochs[1]
    worked.model.eval()
    with torch.inference_mode():
        assert job().validate(worked.model)["mse"] == pytest.approx(best["mse"])


def test_the_order_of_rows_depends_on_seed_and_epoch_alone() -> None:
    assert torch.equal(epoch_order(9, 1, 2), epoch_order(9, 1, 2))
    assert not torch.equal(epoch_order(9, 1, 2), epoch_order(9, 1, 3))
    assert sorted(epoch_order(9, 1, 2).tolist()) == list(range(9))


def test_unknown_and_wrong_settings_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"learning_rte: unknown setting; known: .*learning_rate"):
        plan_of(Plan, {"learning_rte": 1})
    with pytest.raises(InvalidInput, match="epochs"):
        plan_of(Plan, {"epochs": "many"})
    assert plan_of(Plan, {"epochs": "3"}).epochs == 3
