"""One training loop for every recipe: seeds, clipping, schedule, early stopping, checkpoints that resume exactly.

Knows batches and losses, not what is learnt.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.runtime.errors import PreconditionFailed
from training import checkpoint
from training.checkpoint import Place
from training.disk import whole
from training.distributed import Team
from training.journal import Journal
from training.optimiser import optimizer_of, schedule_of
from training.plan import Plan

BEST = "best.safetensors"
ALONE = Team()
RANK_STRIDE = 7_919


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
    """Told after each step: enough for a bar with loss, rate and time left. `note`: what else there is to say."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rows_per_s: float
    note: str = ""


class Diverged(PreconditionFailed):
    """The loss is no number any more; what was saved before is still good."""

    reason = "DIVERGED"


class Loop:
    """Runs a job by its plan inside `folder`; call `run` again after a kill and it goes on.

    Every process of `team` takes its part of each batch. What depends on a clock or on held-out rows is decided by
    the leader for all, and the leader alone writes.
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        folder: Path,
        tell: Callable[[Progress], None] = lambda _: None,
        team: Team = ALONE,
    ) -> None:
        self.job, self.plan, self.folder, self.team, self._tell = job, plan, folder, team, tell
        self.net = team.joined(job.model)
        self.steps_an_epoch = math.ceil(len(job.rows) / plan.batch_size)
        self.optimizer = optimizer_of(job.model, plan)
        self.schedule = schedule_of(self.optimizer, plan, self.steps_an_epoch * plan.epochs)
        self.place = Place()
        self._began = self._saved = 0.0

    def run(self) -> Place:
        """Trains to the end (or the end of patience or time) and leaves the best weights in the leader's model.

        Raises Diverged if the loss, or every validation score, is no number; PreconditionFailed if time was over
        before the first step.
        """
        self._resume()
        self._began, self._saved = time.monotonic() - self.place.seconds, time.monotonic()
        with self._journal() as journal:
            while not self._finished():
                self._epoch(journal)
                self._end_epoch(journal)
                self._save(journal)
        self._check_learnt()
        if self.team.leads:
            checkpoint.load_trained(self.job.model, self._kept())
        return self.place

    def _check_learnt(self) -> None:
        if not self.place.step:
            raise PreconditionFailed(f"max_seconds={self.plan.max_seconds:g} was over before the first step")
        if self.place.best_epoch < 0:
            raise Diverged("no validation score was finite: a smaller learning_rate or a clip_norm may help")

    def _kept(self) -> dict[str, Tensor]:
        try:
            return load_file(self.folder / BEST)
        except Exception as error:
            told = f"{self.folder / BEST} cannot be read: remove {self.folder} to begin anew"
            raise PreconditionFailed(told) from error

    def details(self) -> dict[str, Any]:
        """What a report says of how it was trained, beside the plan."""
        return {}

    def _resume(self) -> None:
        state = self.team.from_leader(self._past)
        # Dropout begins at the seed, whatever was drawn to make the first weights; each process draws its own.
        checkpoint.seed_everything(self.plan.seed + RANK_STRIDE * self.team.rank)
        if state is not None:
            self.place = checkpoint.restore(state, self.job.model, self.optimizer, self.schedule, self.team.rank)

    def _past(self) -> dict[str, Any] | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = checkpoint.load(self.folder)
        if state is None:
            (self.folder / BEST).unlink(missing_ok=True)
        return state

    @contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """Open while the leader trains; others have none."""
        if not self.team.leads:
            yield None
            return
        with closing(Journal(self.folder, self.place.step)) as journal:
            yield journal

    def _finished(self) -> bool:
        plan, place = self.plan, self.place
        tired = plan.patience and place.epoch - place.best_epoch > plan.patience and place.best_epoch >= 0
        return bool(place.epoch >= plan.epochs or tired or self.team.from_leader(self._late))

    def _late(self) -> bool:
        return bool(self.plan.max_seconds) and time.monotonic() - self._began >= self.plan.max_seconds

    def _due(self) -> bool:
        return time.monotonic() - self._saved > self.plan.checkpoint_s

    def _epoch(self, journal: Journal | None) -> None:
        """The rest of the present epoch, or as much of it as time allows."""
        order = epoch_order(len(self.job.rows), self.plan.seed, self.place.epoch)
        while self.place.batch < self.steps_an_epoch:
            first = self.place.batch * self.plan.batch_size
            loss = self._step(order[first : first + self.plan.batch_size])
            loss, late, due = self.team.agreed(loss, self._late(), self._due())
            self._count(loss, journal)
            if late:
                return
            if due and self.place.batch < self.steps_an_epoch:
                self._save(journal)  # at the end of an epoch there is a checkpoint anyway

    def _step(self, indices: Tensor) -> float:
        """One optimiser step on these rows of all processes; this one's part of their mean loss."""
        model, plan = self.job.model, self.plan
        self.net.train()
        rows, share = self.team.share(indices)
        batch = self._batch(rows)
        with torch.autocast(plan.device.split(":")[0], torch.bfloat16, enabled=plan.precision == "bf16"):
            loss = self.job.loss(self.net, batch) * share
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, where the parts of the loss have to be added.
        (loss * self.team.size).backward()  # type: ignore[no-untyped-call]
        if plan.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), plan.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def _batch(self, rows: Tensor) -> Any:
        """These rows, where the net is."""
        return moved(self.job.rows.take(rows), next(self.job.model.parameters()).device)

    def _count(self, loss: float, journal: Journal | None) -> None:
        place = self.place
        place.batch, place.step, place.loss_sum = place.batch + 1, place.step + 1, place.loss_sum + loss
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss is {loss} at step {place.step}: a smaller learning_rate or a clip_norm may help"
            )
        if journal:
            journal.write("step", place.step, loss=loss, rate=self.schedule.get_last_lr()[0])
            self._tell(self._progress(loss))

    def _end_epoch(self, journal: Journal | None) -> None:
        place = self.place
        found = self.team.from_leader(self._validate)
        mean = place.loss_sum / max(1, place.batch)
        if journal:
            journal.write("epoch", place.step, epoch=place.epoch, train_loss=mean, **found)
        if found["score"] > place.best:
            place.best, place.best_epoch = found["score"], place.epoch
            self._keep_best()
        place.epoch, place.batch, place.loss_sum = place.epoch + 1, 0, 0.0

    def _validate(self) -> dict[str, float]:
        """In fp32 on the CPU, as evaluation is: recipes know of no device."""
        model, device = self.job.model, next(self.job.model.parameters()).device
        model.to("cpu").eval()
        with torch.inference_mode():
            found = dict(self.job.validate(model))
        model.to(device)
        return found

    def _keep_best(self) -> None:
        if self.team.leads:
            weights = {k: v.contiguous() for k, v in checkpoint.trained_state(self.job.model).items()}
            with whole(self.folder / BEST) as aside:
                save_file(weights, aside)

    def _save(self, journal: Journal | None) -> None:
        self._saved = time.monotonic()
        self.place.seconds = self._saved - self._began
        drawn = self.team.gathered(checkpoint.random_states())
        if journal:
            journal.sync()
            plan = self.plan.model_dump()
            checkpoint.save(self.folder, self.job.model, self.optimizer, self.schedule, self.place, plan, drawn)

    def _progress(self, loss: float) -> Progress:
        place, plan = self.place, self.plan
        rate = place.step * plan.batch_size / max(1e-9, time.monotonic() - self._began)
        return Progress(place.epoch, plan.epochs, place.step, self.steps_an_epoch * plan.epochs, loss, rate)


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in its tuples and lists on `device`."""
    if isinstance(batch, tuple | list):
        return type(batch)(moved(part, device) for part in batch)
    return batch.to(device) if isinstance(batch, Tensor) else batch


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """int64 [count]: a permutation that depends on seed and epoch alone, so a resumed epoch has the same order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)
