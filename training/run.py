"""One run of a recipe: begin → loop → evaluate → report. Publishing is the caller's choice."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training import checkpoint
from training.data.mnist import Fetch
from training.loop import Loop, Progress
from training.plan import Plan
from training.publish import card
from training.recipe import Recipe, Report, Trained

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run leaves behind."""

    trained: Trained
    model: nn.Module
    report: Report
    seconds: float
    steps: int


def run(
    recipe: Recipe, plan: Plan, fetcher: Fetch, folder: Path, tell: Callable[[Progress], None] = lambda _: None
) -> Finished:
    """Trains in `folder`, going on from its checkpoint if one of the same plan is there; a report is written."""
    torch.set_num_threads(plan.threads or len(os.sched_getaffinity(0)))
    _forget_another_plan(folder, plan)
    trained = recipe.begin(plan, fetcher)
    job = trained.job
    job.model.to(plan.device)
    place = Loop(job, plan, folder, tell).run()
    report = trained.evaluate(job.model)
    (folder / REPORT).write_text(json.dumps(card(report, plan), indent=2))
    return Finished(trained, job.model, report, place.seconds, place.step)


def _forget_another_plan(folder: Path, plan: Plan) -> None:
    """A checkpoint made under other settings is not this run's past."""
    state: dict[str, Any] | None = checkpoint.load(folder)
    if state is not None and state["plan"] != plan.model_dump():
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
