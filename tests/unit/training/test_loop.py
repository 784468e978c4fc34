"""The loop resumes to the same curve after a kill at any step, stops when told, and keeps the best weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from services.runtime.errors import InvalidInput, PreconditionFailed
from training import checkpoint, journal
from training.checkpoint import seed_everything
from training.distributed import Team
from training.loop import BEST, Diverged, Job, Loop, Progress, epoch_order, moved
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


class Dies(Loop):
    """Dies in the moment between the end of its second epoch and the checkpoint after it."""

    def _save(self, journal: journal.Journal | None) -> None:
        if self.place.epoch == 2:
            raise Killed
        super()._save(journal)


def test_a_kill_between_an_epochs_line_and_its_checkpoint_tells_no_epoch_twice(tmp_path: Path) -> None:
    Loop(job(), PLAN, tmp_path / "whole").run()
    with pytest.raises(Killed):
        Dies(job(), PLAN, tmp_path / "killed").run()
    assert [line["epoch"] for line in journal.read(tmp_path / "killed") if line["kind"] == "epoch"] == [0, 1]
    Loop(job(), PLAN, tmp_path / "killed").run()
    assert journal.read(tmp_path / "killed") == journal.read(tmp_path / "whole")


def frozen_job() -> Job:
    """The first layer is frozen, and by far the largest part."""
    made = job()
    made.model[0] = nn.Linear(1, 8).requires_grad_(False)
    return made


def test_frozen_weights_are_not_kept_and_a_resumed_run_is_exact_all_the_same(tmp_path: Path) -> None:
    whole = frozen_job()
    Loop(whole, PLAN, tmp_path / "whole").run()

    def kill(progress: Progress) -> None:
        if progress.step == 17:
            raise Killed

    with pytest.raises(Killed):
        Loop(frozen_job(), PLAN, tmp_path / "killed", kill).run()
    state = checkpoint.load(tmp_path / "killed")
    assert state is not None
    assert state["model"].keys() == {"3.weight", "3.bias"} == load_file(tmp_path / "killed" / BEST).keys()
    resumed = frozen_job()
    Loop(resumed, PLAN, tmp_path / "killed").run()
    assert journal.read(tmp_path / "killed") == journal.read(tmp_path / "whole")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    sound = job()

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        lost = torch.tensor(float("nan")) if len(journal.read(tmp_path)) == 9 else 0.0
        return sound.loss(net, batch) + lost

    with pytest.raises(Diverged, match="the loss is nan at step 9: a smaller learning_rate"):
        Loop(replace(sound, loss=loss), PLAN, tmp_path).run()
    state = checkpoint.load(tmp_path)
    assert state is not None and state["place"]["step"] == 8


def test_a_net_that_was_never_scored_or_never_trained_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="no validation score was finite: a smaller learning_rate"):
        Loop(job([float("-inf"), float("nan")]), PLAN.model_copy(update={"epochs": 2}), tmp_path / "wild").run()
    with pytest.raises(PreconditionFailed, match="max_seconds=1e-09 was over before the first step"):
        Loop(job(), PLAN.model_copy(update={"max_seconds": 1e-9}), tmp_path / "hasty").run()


def test_mixed_precision_is_for_training_alone(tmp_path: Path) -> None:
    sound, trained, validated = job(), set(), set()

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        trained.add(net(batch[0]).dtype)
        return sound.loss(net, batch)

    def validate(net: nn.Module) -> dict[str, float]:
        validated.add(net(Points(2).x).dtype)
        return {"score": 0.0}

    plan = PLAN.model_copy(update={"precision": "bf16"})
    Loop(replace(sound, loss=loss, validate=validate), plan, tmp_path).run()
    assert (trained, validated) == ({torch.bfloat16}, {torch.float32})
    assert {value.dtype for value in sound.model.state_dict().values()} == {torch.float32}


def test_a_checkpoint_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    Loop(job(), PLAN, tmp_path).run()
    whole = (tmp_path / checkpoint.FILE).read_bytes()
    (tmp_path / checkpoint.FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PreconditionFailed, match="remove it to begin anew"):
        Loop(job(), PLAN, tmp_path).run()


@pytest.mark.parametrize("damaged", [None, b"torn"])
def test_a_best_net_that_is_lost_is_not_replaced_by_the_last(tmp_path: Path, damaged: bytes | None) -> None:
    Loop(job(), PLAN, tmp_path).run()
    (tmp_path / BEST).unlink()
    if damaged:
        (tmp_path / BEST).write_bytes(damaged)
    with pytest.raises(PreconditionFailed, match=r"best\.safetensors cannot be read: remove .* to begin anew"):
        Loop(job(), PLAN, tmp_path).run()


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


class Second(Team):
    """The second process of a run whose first one it need not wait for."""

    def share(self, rows: Tensor) -> tuple[Tensor, float]:
        return rows, 1.0


def test_dropout_is_drawn_by_seed_and_process_and_the_leader_alone_writes(tmp_path: Path) -> None:
    seeds = []
    for team, folder in ((Team(), tmp_path / "first"), (Second(rank=1), tmp_path / "second")):
        Loop(job(), PLAN.model_copy(update={"seed": 5}), folder, team=team).run()
        seeds.append(torch.initial_seed())
    assert seeds[0] == 5 != seeds[1]
    assert (tmp_path / "first" / BEST).is_file() and not list((tmp_path / "second").glob("*"))


def test_a_batch_is_moved_whole() -> None:
    """To `meta`, the one other device that is everywhere."""
    x, y = torch.zeros(2), torch.ones(3)
    here, (there, names) = moved((x, [y, "name"]), torch.device("meta"))
    assert (here.device.type, there.device.type, names) == ("meta", "meta", "name")
    assert moved(x, x.device) is x
