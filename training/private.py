"""Differentially private training: DP-SGD in the place of the loop's step. Knows no recipe and no data set.

Each step takes every training row with probability q = batch_size/rows by itself (Poisson sampling, which the
accounting needs), clips the gradient of each row to norm C, adds noise to their sum and divides by the expected
number of rows (Abadi et al. 2016, arXiv:1607.00133, algorithm 1):

    g̃ = (Σᵢ gᵢ·min(1, C/‖gᵢ‖) + 𝒩(0, σ²C²I)) / (q·rows)

The optimiser sees g̃ alone, so the weights of all T steps are (ε, δ)-private with regard to one training row. ε is
counted by Rényi divergences of the sampled Gaussian mechanism (Mironov 2017, arXiv:1702.07476; Mironov, Talwar &
Zhang 2019, arXiv:1908.10530), turned into ε at δ by Balle et al. 2020, arXiv:1905.09982, theorem 21.

Not covered: what else is told of the training rows (losses in journal and plots, the baseline, counts, a digest),
validation rows, the choice among several runs, each of which spends an ε of its own. Sampling and noise are seeded
by the operating system, not by the plan, whose seed is published; the generator is torch's own, which is not
cryptographic (`secure_mode` off).
"""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from services.runtime.errors import InvalidInput
from training.checkpoint import Place
from training.distributed import Team
from training.loop import ALONE, Job, Loop, Progress
from training.plan import MOST_NOISE, Plan, PrivatePlan

# Rényi orders: fine where ε is large, far out where it is small.
ORDERS = [*(1 + tenths / 10 for tenths in range(1, 100)), *range(12, 64), *(2**power for power in range(6, 12))]

LEAST_NOISE = 1e-12
NOT_COVERED = (
    "training losses and plots, baseline, counts and digest of the rows, validation rows, choice among runs"
)


def loop_of(job: Job, plan: Plan, folder: Path, tell: Callable[[Progress], None], team: Team = ALONE) -> Loop:
    """The loop that the plan asks for. Raises InvalidInput for one that cannot be private."""
    if isinstance(plan, PrivatePlan) and plan.is_private:
        return PrivateLoop(job, plan, folder, tell, team)
    return Loop(job, plan, folder, tell, team)


class PrivateLoop(Loop):
    """The loop with DP-SGD for its step. ε depends on the number of steps alone, so it survives any kill."""

    plan: PrivatePlan

    def __init__(
        self, job: Job, plan: PrivatePlan, folder: Path, tell: Callable[[Progress], None], team: Team = ALONE
    ) -> None:
        _check(job, plan, team)
        super().__init__(job, plan, folder, tell, team)
        from opacus.optimizers import DPOptimizer

        self.rate = min(1.0, plan.batch_size / len(job.rows))
        self.noise = plan.dp_noise or noise_for(
            plan.dp_epsilon, plan.dp_delta, self.rate, self.steps_an_epoch * plan.epochs
        )
        # The schedule keeps the optimiser that it was made for: this one steps through it.
        self.optimizer = DPOptimizer(
            self.optimizer,
            noise_multiplier=self.noise,
            max_grad_norm=plan.dp_clip,
            expected_batch_size=self.rate * len(job.rows),
        )
        self._told = ""

    def run(self) -> Place:
        """As the loop's; the model is left without a trace of the per-row gradients."""
        with _row_gradients(self.job.model):
            return super().run()

    def spent(self) -> float:
        """ε of the steps so far."""
        return epsilon(self.noise, self.rate, self.place.step, self.plan.dp_delta)

    def details(self) -> dict[str, Any]:
        """What the report says of the guarantee and how it was come by."""
        told = {
            "epsilon": self.spent(),
            "delta": self.plan.dp_delta,
            "noise_multiplier": self.noise,
            "clip_norm": self.plan.dp_clip,
            "sample_rate": self.rate,
            "steps": self.place.step,
            "accountant": "RDP",
            "secure_mode": False,
            "not_covered": NOT_COVERED,
        }
        return {"privacy": told}

    def _resume(self) -> None:
        super()._resume()
        if not self.place.step:
            torch.manual_seed(secrets.randbits(63))

    def _step(self, indices: Tensor) -> float:
        """One step on rows drawn for it; `indices`, of the epoch's order, are left aside. Without a row: noise."""
        drawn = torch.rand(len(self.job.rows), dtype=torch.float64) < self.rate
        rows = drawn.nonzero().flatten()
        self.job.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(rows) if len(rows) else self._no_gradients()
        self.optimizer.step()
        self.schedule.step()
        return loss

    def _gradients(self, rows: Tensor) -> float:
        loss = self.job.loss(self.job.model, self._batch(rows))
        with warnings.catch_warnings():
            # Hooks on the first layer fire although pixels need no gradient: that is what they are for.
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _no_gradients(self) -> float:
        for weights in self.job.model.parameters():
            weights.grad_sample = weights.new_zeros(0, *weights.shape)  # type: ignore[attr-defined]
        return 0.0

    def _validate(self) -> dict[str, float]:
        spent = self.spent()
        self._told = f"ε {spent:.2f}"
        return {**super()._validate(), "epsilon": spent}

    def _progress(self, loss: float) -> Progress:
        return replace(super()._progress(loss), note=self._told)


def epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """ε at `delta` of `steps` steps with noise multiplier `noise` and sampling probability `rate`."""
    from opacus.accountants.analysis import rdp

    if not steps:
        return 0.0
    divergence = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=ORDERS)
    with warnings.catch_warnings():
        # At the edge of the orders the bound is looser, and still one.
        warnings.filterwarnings("ignore", "Optimal order")
        return max(0.0, float(rdp.get_privacy_spent(orders=ORDERS, rdp=divergence, delta=delta)[0]))


def noise_for(target: float, delta: float, rate: float, steps: int) -> float:
    """The least noise multiplier, within a thousandth, whose ε is at most `target`, by bisection."""
    low, high = 0.0, 1.0
    while epsilon(high, rate, steps, delta) > target:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise InvalidInput("dp_epsilon", f"{target:g} cannot be kept over {steps} steps; take fewer epochs")
    while high - low > high / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon(middle, rate, steps, delta) > target else (low, middle)
    return high


def _check(job: Job, plan: PrivatePlan, team: Team) -> None:
    """Raises InvalidInput naming the setting that stands against a guarantee."""
    from opacus.validators import ModuleValidator

    if plan.dp_noise and plan.dp_epsilon:
        raise InvalidInput("dp_noise", "dp_noise and dp_epsilon are both set; one decides the other, set one")
    if 0 < plan.dp_noise < LEAST_NOISE:
        raise InvalidInput("dp_noise", f"{plan.dp_noise:g} hides nothing; at least {LEAST_NOISE:g}, or 0 for none")
    if plan.dp_delta >= 1 / len(job.rows):
        most = f"{len(job.rows)} rows need less than {1 / len(job.rows):.2g}"
        raise InvalidInput("dp_delta", f"{plan.dp_delta:g} would allow to tell a whole row; {most}")
    if plan.clip_norm:
        raise InvalidInput(
            "clip_norm", "clips a batch; private training clips each row: set dp_clip, leave this 0"
        )
    if plan.precision != "fp32":
        raise InvalidInput("precision", f"{plan.precision} does not go with private training; use fp32")
    if team.size > 1:
        raise InvalidInput("dp_noise", "private training runs in one process; start it without torchrun")
    if errors := ModuleValidator.validate(job.model.train(), strict=False):
        raise InvalidInput("dp_noise", f"this net has no gradient for each row: {errors[0]}")


@contextmanager
def _row_gradients(model: nn.Module) -> Iterator[None]:
    """Inside, a backward pass leaves each row's gradient in `grad_sample` of every parameter."""
    from opacus.grad_sample import GradSampleHooks

    hooks = GradSampleHooks(model, loss_reduction="mean")
    try:
        yield
    finally:
        hooks.cleanup()
