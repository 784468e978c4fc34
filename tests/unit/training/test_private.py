"""DP-SGD by hand: clipping, noise, sampling and accounting against slow references; kills; what is refused."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cli.reports import told_privacy
from services.runtime.errors import InvalidInput
from tests.unit.training.painted import paint
from training import journal
from training.checkpoint import seed_everything
from training.distributed import Team
from training.loop import ALONE, Job, Loop, Progress
from training.plan import PRIVATE, Plan, PrivatePlan, plan_of
from training.private import PrivateLoop, epsilon, loop_of, noise_for
from training.publish import card
from training.recipes.table import RECIPES
from training.run import run

ROWS = 40


class NoFetch:
    """A folder needs nothing fetched."""

    def fetch(self, source: str, sha256: str) -> Path:
        raise AssertionError(source)


class Points:
    """y = 3x − 1 with noise; remembers which rows were taken."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(ROWS, 1, generator=generator)
        self.y = 3 * self.x - 1 + 0.01 * torch.randn(ROWS, 1, generator=generator)
        self.taken: list[list[int]] = []

    def __len__(self) -> int:
        return ROWS

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        self.taken.append(indices.tolist())
        return self.x[indices], self.y[indices]


def squares(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(net(batch[0]), batch[1])


def validate(net: nn.Module) -> Mapping[str, float]:
    points = Points()
    return {"score": -float(squares(net, (points.x, points.y)))}


def job(net: nn.Module | None = None) -> Job:
    seed_everything(3)
    model = net or nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    return Job(model, Points(), squares, validate)


def plan(**settings: Any) -> PrivatePlan:
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 0.05, "dp_noise": 1.0, "checkpoint_s": 1e-9}
    return PrivatePlan(**{**chosen, **settings})


def private(work: Job, chosen: Plan, folder: Path, tell: Any = lambda _: None, team: Team = ALONE) -> PrivateLoop:
    loop = loop_of(work, chosen, folder, tell, team)
    assert isinstance(loop, PrivateLoop)
    return loop


def weights(net: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in net.parameters()])


def test_without_noise_the_loop_is_the_common_one(tmp_path: Path) -> None:
    assert type(loop_of(job(), plan(dp_noise=0), tmp_path, lambda _: None)) is Loop


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_a_step_is_the_mean_of_clipped_gradients(tmp_path: Path, clip: float) -> None:
    torch.set_num_threads(1)
    rate = 0.1
    work = job()
    before = weights(work.model)
    expected = torch.zeros_like(before)
    for row in range(ROWS):
        work.model.zero_grad()
        squares(work.model, work.rows.take(torch.tensor([row]))).backward()  # type: ignore[no-untyped-call]
        one = torch.cat([value.grad.flatten() for value in work.model.parameters() if value.grad is not None])
        expected += one * min(1.0, clip / float(one.norm()))
    # All rows in each batch, and as good as no noise.
    chosen = plan(
        epochs=1, batch_size=ROWS, optimizer="sgd", momentum=0, learning_rate=rate, dp_clip=clip, dp_noise=1e-12
    )
    private(work, chosen, tmp_path).run()
    torch.testing.assert_close(weights(work.model), before - rate * expected / ROWS, atol=2e-5, rtol=1e-4)


def test_the_noise_has_the_stated_deviation(tmp_path: Path) -> None:
    work = job(nn.Sequential(nn.Linear(1, 4000), nn.Linear(4000, 1)))
    before, noise, clip = weights(work.model), 3.0, 1e-4
    chosen = plan(
        epochs=1, batch_size=ROWS, optimizer="sgd", momentum=0, learning_rate=1.0, dp_noise=noise, dp_clip=clip
    )
    private(work, chosen, tmp_path).run()
    # ROWS clipped gradients add at most ROWS·clip to one norm over 12,001 weights: the noise drowns them.
    moved = (weights(work.model) - before) * ROWS
    assert float(moved.std()) == pytest.approx(noise * clip, rel=0.05)


def test_rows_are_drawn_one_by_one_and_a_step_without_rows_is_one(tmp_path: Path) -> None:
    work = job()
    loop = private(work, plan(epochs=10, batch_size=1), tmp_path)
    loop.run()
    assert loop.place.step == 10 * ROWS
    taken = work.rows.taken  # type: ignore[attr-defined]
    sizes = [len(rows) for rows in taken]
    empty = 10 * ROWS - len(sizes)
    # Binomial(40, 1/40): 36 % of the draws are empty, their mean is 1; five deviations on each side.
    assert 96 < empty < 194 and 300 < sum(sizes) < 500 and max(sizes) > 1
    assert all(len(set(rows)) == len(rows) for rows in taken)
    assert torch.isfinite(weights(work.model)).all()


def test_epsilon_without_sampling_is_that_of_the_gaussian_mechanism() -> None:
    noise, steps, delta = 5.0, 12, 1e-5

    def at(order: float) -> float:
        rest = (math.log(delta) + math.log(order)) / (order - 1)
        return steps * order / (2 * noise**2) - rest + math.log((order - 1) / order)

    assert epsilon(noise, 1.0, steps, delta) == pytest.approx(
        min(at(1 + x / 100) for x in range(5, 6000)), rel=2e-3
    )


def test_epsilon_with_sampling_meets_the_formula_of_whole_orders() -> None:
    """Mironov, Talwar & Zhang 2019, eq. 10: A(α) = Σₖ C(α, k)(1−q)^(α−k) q^k exp(k(k−1)/2σ²)."""
    noise, rate, steps, delta = 1.1, 256 / 60_000, 14_000, 1e-5

    def at(order: int) -> float:
        terms = (
            math.comb(order, k) * (1 - rate) ** (order - k) * rate**k * math.exp(k * (k - 1) / (2 * noise**2))
            for k in range(order + 1)
        )
        rest = (math.log(delta) + math.log(order)) / (order - 1)
        return steps * math.log(sum(terms)) / (order - 1) - rest + math.log((order - 1) / order)

    slow = min(map(at, range(2, 40)))
    assert slow * 0.98 <= epsilon(noise, rate, steps, delta) <= slow


def test_epsilon_grows_with_steps_and_falls_with_noise() -> None:
    assert epsilon(1.0, 0.01, 0, 1e-5) == 0.0
    assert epsilon(1.0, 0.01, 100, 1e-5) < epsilon(1.0, 0.01, 200, 1e-5) < epsilon(0.8, 0.01, 200, 1e-5)
    assert 0 <= epsilon(1000.0, 0.001, 1, 1e-5) < 0.1


@pytest.mark.parametrize("target", [0.5, 3.0, 20.0])
def test_a_target_is_kept_and_nearly_used_up(target: float) -> None:
    noise = noise_for(target, 1e-5, 0.01, 1000)
    assert target * 0.97 < epsilon(noise, 0.01, 1000, 1e-5) <= target


def test_a_target_decides_the_noise_of_a_run(tmp_path: Path) -> None:
    told: list[Progress] = []
    loop = private(job(), plan(dp_noise=0, dp_epsilon=4.0), tmp_path, told.append)
    loop.run()
    found = loop.details()["privacy"]
    assert 3.8 < found["epsilon"] <= 4.0 and found["steps"] == 10 and found["sample_rate"] == 0.2
    assert found["secure_mode"] is False
    epochs = [line["epsilon"] for line in journal.read(tmp_path) if line["kind"] == "epoch"]
    assert len(epochs) == 2 and epochs[0] < epochs[1] == pytest.approx(found["epsilon"])
    assert told[0].note == "" and told[-1].note == f"ε {epochs[0]:.2f}"


class Killed(Exception):
    """Stands for kill -9: nothing of the loop runs after it."""


def test_a_killed_run_goes_on_with_its_noise_and_its_count(tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        private(job(), plan(), tmp_path / "one", kill).run()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    ends = []
    for folder in ("one", "two"):
        torch.manual_seed(999)
        work = job()
        loop = private(work, plan(), tmp_path / folder)
        loop.run()
        ends.append((weights(work.model), journal.read(tmp_path / folder), loop.spent()))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1:] == ends[1][1:]
    assert ends[0][2] == pytest.approx(epsilon(1.0, 0.2, 10, 1e-5))


def test_noise_does_not_follow_from_the_published_seed(tmp_path: Path) -> None:
    ends = []
    for folder in ("one", "two"):
        work = job()
        private(work, plan(), tmp_path / folder).run()
        ends.append(weights(work.model))
    assert not torch.equal(*ends)


def test_the_model_is_left_as_it_came(tmp_path: Path) -> None:
    work = job()
    private(work, plan(), tmp_path).run()
    assert not any(hasattr(value, "grad_sample") for value in work.model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in work.model.modules())
    private(work, plan(), tmp_path / "again").run()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"dp_epsilon": 1.0}, "dp_noise: .*set one"),
        ({"dp_noise": 1e-200}, "dp_noise: 1e-200 hides nothing"),
        ({"dp_delta": 0.025}, "dp_delta: .*40 rows need less than 0.025"),
        ({"clip_norm": 1.0}, "clip_norm: .*set dp_clip"),
        ({"precision": "bf16"}, "precision: .*use fp32"),
        ({"dp_noise": 0, "dp_epsilon": 1e-9}, "dp_epsilon: .*fewer epochs"),
    ],
)
def test_what_stands_against_a_guarantee_is_named(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        private(job(), plan(**settings), tmp_path)


def test_nets_and_teams_that_cannot_be_private_are_refused(tmp_path: Path) -> None:
    mixing = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with pytest.raises(InvalidInput, match=r"dp_noise: this net has no gradient for each row: .*BatchNorm"):
        private(job(mixing), plan(), tmp_path)
    with pytest.raises(InvalidInput, match="one process"):
        private(job(), plan(), tmp_path, team=Team(rank=0, size=2))


def test_other_recipes_say_which_can_be_private() -> None:
    can = sorted(name for name, recipe in RECIPES.items() if issubclass(recipe.plan, PrivatePlan))
    assert can == sorted(PRIVATE)
    with pytest.raises(InvalidInput, match=rf"dp_noise: .*{', '.join(can)}"):
        plan_of(RECIPES["rnn-forecast"].plan, {"dp_noise": 1})


def test_a_picture_recipe_is_trained_privately_and_its_card_says_so(tmp_path: Path) -> None:
    recipe = RECIPES["lenet-rgb"]
    data = str(paint(tmp_path / "own"))
    chosen = {"data": data, "size": 16, "epochs": 2, "batch_size": 8, "threads": 1, "dp_epsilon": 8}
    done = run(recipe, plan_of(recipe.plan, chosen), NoFetch(), tmp_path / "home")
    found = card(done.report, PrivatePlan())["details"]["privacy"]
    assert 7 < found["epsilon"] <= 8 and found["delta"] == 1e-5 and found["steps"] == done.steps
    assert told_privacy(found).startswith(f"private: ε {found['epsilon']:.2f} at δ 1e-05 for one training row")
    # The rows' own mean would tell of them.
    assert done.trained.fields()["preprocessing"]["mean"] == [127.5] * 3
    assert not any(hasattr(value, "grad_sample") for value in done.model.parameters())
