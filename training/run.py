"""One run of a recipe: begin → loop → evaluate → report. Publishing is the caller's choice.

Training and the look at the test rows are two steps: who trains several nets looks for the chosen one only.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from services.runtime.errors import InvalidInput
from training import checkpoint
from training.checkpoint import Place
from training.data.mnist import Fetch
from training.disk import alone_in, whole
from training.distributed import Team, present
from training.loop import Progress
from training.plan import Plan
from training.plots import draw
from training.private import loop_of
from training.publish import card
from training.recipe import Cut, Recipe, Report, Trained
from training.slices import too_many

REPORT, DATA = "report.json", "data.json"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A net that was trained and chosen on validation rows; of the test rows nothing is known yet."""

    trained: Trained
    model: nn.Module
    plan: Plan
    folder: Path
    place: Place
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run leaves behind."""

    trained: Trained
    model: nn.Module
    report: Report
    seconds: float
    steps: int
    plots: list[Path] = field(default_factory=list)


def run(
    recipe: Recipe, plan: Plan, fetcher: Fetch, folder: Path, tell: Callable[[Progress], None] = lambda _: None
) -> Finished:
    """Trains in `folder`, going on from its checkpoint if one of the same plan and data is there.

    Leaves there the journal, the checkpoint, what the data was, the report and the plots.
    """
    return evaluate(train(recipe, plan, fetcher, folder, tell))


def train(
    recipe: Recipe, plan: Plan, fetcher: Fetch, folder: Path, tell: Callable[[Progress], None] = lambda _: None
) -> Fitted:
    """The best net of the validation rows. The test rows are left alone."""
    team = present()
    check_device(team.device(plan.device))
    _use_threads(plan, team)
    with team.first_of_machine():
        trained = recipe.begin(plan, fetcher)
    provenance = trained.fields().get("provenance", {})
    if team.from_leader(lambda: provenance) != provenance:
        raise InvalidInput("data", "this process read other data than the first: each machine needs the same")
    job = trained.job
    job.model.to(team.device(plan.device))
    loop = loop_of(job, plan, folder, tell, team)
    with alone_in(folder) if team.leads else nullcontext():
        if team.leads:  # not before all was found fit: a command that is refused leaves the run before it alone
            _forget_another_plan(folder, plan)
            _forget_other_data(folder, {**provenance, **(trained.data() if isinstance(trained, Cut) else {})})
        place = loop.run()
    job.model.to("cpu")  # where it is evaluated and published, as serving runs it
    return Fitted(trained, job.model, plan, folder, place, loop.details())


def evaluate(fitted: Fitted, details: Mapping[str, Any] | None = None) -> Finished:
    """The one look at the test rows; report and plots go into the run's folder. `details` join the report's."""
    trained, model, place, team = fitted.trained, fitted.model, fitted.place, present()
    report = team.from_leader(lambda: trained.evaluate(model))
    untold = too_many(report.slices)
    more = {**fitted.details, **(details or {}), **({"too_many_groups": untold} if untold else {})}
    slices = {name: groups for name, groups in report.slices.items() if name not in untold}
    report = replace(report, slices=slices, details={**report.details, **more})
    plots = []
    if team.leads:
        _write(fitted.folder / REPORT, card(report, fitted.plan))
        plots = draw(fitted.folder, report, trained.labels())
    return Finished(trained, model, report, place.seconds, place.step, plots)


def check_device(name: str) -> None:
    """InvalidInput where this machine has no such device."""
    count = torch.cuda.device_count()
    if name.startswith("cuda") and (torch.device(name).index or 0) >= count:
        raise InvalidInput("device", f"{name!r}: this machine has {count} CUDA devices; cpu is always there")


def _use_threads(plan: Plan, team: Team) -> None:
    """As many as the plan says, or one a core; processes beside each other have what torchrun gave each."""
    if plan.threads or team.size == 1:
        torch.set_num_threads(plan.threads or len(os.sched_getaffinity(0)))


def _write(path: Path, content: Any) -> None:
    with whole(path) as aside:
        aside.write_text(json.dumps(content, indent=2))


def _forget_another_plan(folder: Path, plan: Plan) -> None:
    """A checkpoint made under other settings is not this run's past."""
    state: dict[str, Any] | None = checkpoint.load(folder)
    if state is not None and state["plan"] != plan.model_dump():
        _clear(folder)


def _forget_other_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Nor is one made from other rows: of those, some may be test rows now. Writes down what the data is."""
    path = folder / DATA
    if not path.is_file() or path.read_text() != json.dumps(data, indent=2):
        _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, data)


def _clear(folder: Path) -> None:
    for path in folder.glob("*"):
        if path.is_file():
            path.unlink()
