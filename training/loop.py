"""One training loop for every recipe: seeds, clipping, schedule, early stopping, checkpoints that resume exactly.

Knows batches and losses, not what is learnt.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training import checkpoint
from training.checkpoint import Place
from training.journal import Journal
from training.plan import Plan

BEST = "best.safetensors"


class Rows(Protocol):
    """Training rows, addressed by index."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Any:
        """The batch of these rows; `indices` int64 [batch]."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a recipe hands to the loop. `validate` returns metrics, `score` among them: higher is better."""

    model: nn.Module
    rows: Rows
    loss: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Told after each step: enough for a bar with loss, rate and time left."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rows_per_s: float


class Loop:
    """Runs a job by its plan inside `folder`; call `run` again after a kill and it goes on."""

    def __init__(
        self, job: Job, plan: Plan, folder: Path, tell: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self.job, self.plan, self.folder, self._tell = job, plan, folder, tell
        self.steps_an_epoch = math.ceil(len(job.rows) / plan.batch_size)
        self.optimizer = optimizer_of(job.model, plan)
        self.schedule = schedule_of(self.optimizer, plan, self.steps_an_epoch * plan.epochs)
        self.place = Place()

    def run(self) -> Place:
        """Trains to the end (or the end of patience or time) and leaves the best weights in the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        journal = Journal(self.folder, self.place.step)
        began = time.monotonic() - self.place.seconds
        saved = time.monotonic()
        try:
            while not self._finished(began):
                for _ in self._epoch(journal, began):
                    if time.monotonic() - saved > self.plan.checkpoint_s:
                        self._save(began)
                        saved = time.monotonic()
                self._end_epoch(journal)
                self._save(began)
        finally:
            journal.close()
        if (self.folder / BEST).is_file():
            self.job.model.load_state_dict(load_file(self.folder / BEST))
        return self.place

    def _resume(self) -> None:
        state = checkpoint.load(self.folder)
        if state is None:
            # Dropout's draws begin at the seed, whatever was drawn to make the first weights.
            checkpoint.seed_everything(self.plan.seed)
        else:
            self.place = checkpoint.restore(state, self.job.model, self.optimizer, self.schedule)

    def _finished(self, began: float) -> bool:
        plan, place = self.plan, self.place
        tired = plan.patience and place.epoch - place.best_epoch > plan.patience and place.best_epoch >= 0
        late = plan.max_seconds and time.monotonic() - began >= plan.max_seconds
        return bool(place.epoch >= plan.epochs or tired or late)

    def _epoch(self, journal: Journal, began: float) -> Iterator[None]:
        """The rest of the present epoch, one step at a time."""
        order = epoch_order(len(self.job.rows), self.plan.seed, self.place.epoch)
        while self.place.batch < self.steps_an_epoch:
            first = self.place.batch * self.plan.batch_size
            loss = self._step(order[first : first + self.plan.batch_size])
            self.place.batch += 1
            self.place.step += 1
            self.place.loss_sum += loss
            journal.write("step", self.place.step, loss=loss, rate=self.schedule.get_last_lr()[0])
            self._tell(self._progress(loss, began))
            yield
            if self.plan.max_seconds and time.monotonic() - began >= self.plan.max_seconds:
                return

    def _step(self, indices: Tensor) -> float:
        model, plan = self.job.model, self.plan
        model.train()
        batch = self.job.rows.take(indices)
        with torch.autocast(plan.device.split(":")[0], torch.bfloat16, enabled=plan.precision == "bf16"):
            loss = self.job.loss(model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if plan.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def _end_epoch(self, journal: Journal) -> None:
        place = self.place
        self.job.model.eval()
        with torch.inference_mode():
            found = dict(self.job.validate(self.job.model))
        mean = place.loss_sum / max(1, place.batch)
        journal.write("epoch", place.step, epoch=place.epoch, train_loss=mean, **found)
        if found["score"] > place.best:
            place.best, place.best_epoch = found["score"], place.epoch
            save_file({k: v.contiguous() for k, v in self.job.model.state_dict().items()}, self.folder / BEST)
        place.epoch, place.batch, place.loss_sum = place.epoch + 1, 0, 0.0

    def _save(self, began: float) -> None:
        self.place.seconds = time.monotonic() - began
        plan = self.plan.model_dump()
        checkpoint.save(self.folder, self.job.model, self.optimizer, self.schedule, self.place, plan)

    def _progress(self, loss: float, began: float) -> Progress:
        place, plan = self.place, self.plan
        rate = place.step * plan.batch_size / max(1e-9, time.monotonic() - began)
        return Progress(place.epoch, plan.epochs, place.step, self.steps_an_epoch * plan.epochs, loss, rate)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """int64 [count]: a permutation that depends on seed and epoch alone, so a resumed epoch has the same order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)


def optimizer_of(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015): m ← β₁m+(1−β₁)g, v ← β₂v+(1−β₂)g², θ ← θ − η·m̂/(√v̂+ε); AdamW decouples the decay
    (Loshchilov & Hutter 2019); SGD with momentum (Polyak 1964): u ← μu+g, θ ← θ − ηu."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(weights, plan.learning_rate, plan.momentum, weight_decay=plan.weight_decay)
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, plan.learning_rate, weight_decay=plan.weight_decay)


def schedule_of(optimizer: torch.optim.Optimizer, plan: Plan, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then constant, linear to 0, or half a cosine to 0 (Loshchilov & Hutter 2017)."""

    def factor(step: int) -> float:
        if step < plan.warmup_steps:
            return (step + 1) / plan.warmup_steps
        done = (step - plan.warmup_steps) / max(1, steps - plan.warmup_steps)
        if plan.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return max(0.0, 1 - done) if plan.schedule == "linear" else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
