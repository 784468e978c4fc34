"""Any stored version against data it did not learn from: which judge measures it, and what is told of it.

Knows no kind of model.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.manifest import Manifest
from training.data.cut import named
from training.data.mnist import Fetch
from training.judges import classes, forecasts, language, pictures
from training.judges.subject import Question, Subject, Tell, silent
from training.recipe import Report
from training.slices import Groups, is_small, too_many


class Judge(Protocol):
    def __call__(self, subject: Subject, question: Question) -> Report: ...


class Task(NamedTuple):
    """How a task is measured, and on what: named sets, and a user's own data in words."""

    judge: Judge
    sets: tuple[str, ...]
    own: str


TASKS: Mapping[str, Task] = {
    "vision.classify": Task(pictures.judge, tuple(pictures.SETS), "a folder of pictures"),
    "sequence.classify": Task(classes.judge, classes.SETS, "a CSV file of series, or JSON lines of texts"),
    "sequence.forecast": Task(forecasts.judge, forecasts.SETS, "a CSV file of one series"),
    "generation.generate": Task(language.judge, language.SETS, "a text file, or JSON lines of texts"),
}


def evaluate(
    manifest: Manifest, directory: Path, data: str | Question, fetcher: Fetch, tell: Tell = silent
) -> Report:
    """The report on held-out rows of a named set, or on a file or folder.

    Of data that the model was trained on only their test rows are judged. Raises InvalidInput for a model that has
    nothing to measure and for data that do not fit it, NotFound for data that are not there.
    """
    question = data if isinstance(data, Question) else Question(data)
    task = next((TASKS[name] for name in manifest.tasks if name in TASKS), None)
    if task is None:
        done, known = ", ".join(manifest.tasks), ", ".join(TASKS)
        raise InvalidInput("model", f"{manifest.name} does {done}; what can be evaluated does one of {known}")
    if question.data not in task.sets and any(question.data in other.sets for other in TASKS.values()):
        told = (
            f"{question.data} is nothing for {manifest.name}: it is measured by {', '.join(task.sets)}, {task.own}"
        )
        raise InvalidInput("data", told)
    return _told(task.judge(Subject(manifest, directory, fetcher, tell), question), question)


def _told(report: Report, question: Question) -> Report:
    """The slices that were asked for, and which of their groups have too few rows to say much."""
    strange = [name for name in question.slices if name not in report.slices]
    if strange:
        raise NotFound("slice", strange[0], report.slices)
    untold = {} if question.slices else too_many(report.slices)
    wanted = question.slices or [name for name in report.slices if name not in untold]
    slices = {name: report.slices[name] for name in wanted}
    few = {name: small for name, groups in slices.items() if (small := small_groups(groups))}
    more = {"left_out": named(report.details.get("left_out", {})), "small_groups": few}
    details = {**report.details, **more, **({"too_many_groups": untold} if untold else {})}
    return replace(report, slices=slices, details=details)


def small_groups(groups: Groups) -> list[str]:
    """Those of under 20 rows."""
    return [name for name, told in groups.items() if is_small(told.get("count", 0))]
