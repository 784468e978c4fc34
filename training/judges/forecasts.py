"""Forecasters beside naive forecasts, prepared and run as serving does. Knows no service and no architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from services.runtime.runners.open import open_runner
from services.sequence.models import encode, registry, spread
from services.sequence.models.forecast import Ahead, predict_ahead
from services.sequence.models.net import Net
from services.sequence.models.scaling import Scaling
from training import metrics
from training.coverage import Series, coverage
from training.data import series, series_csv, sunspots
from training.data.table import read_table
from training.forecasting import last_value, seasonal_naive
from training.judges.subject import LEARNT, Question, Subject, file_of, learnt_from, places_of, runner_settings
from training.recipe import Report

Values = NDArray[np.float64]
BATCH = 256
SUNSPOTS = "sunspots"
PERIOD, COLUMN = "period", "column"  # slices that every series has
MODEL, LAST, SEASONAL = "model", "last_value", "seasonal"
SETS = (SUNSPOTS,)


@dataclass(frozen=True, slots=True)
class Known:
    """A series float64 [T, F], the first step that is a target, times and groups of all steps."""

    values: Values
    first: int
    season: int
    times: Values
    columns: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """What came and what each forecaster said, float64 [origins, steps, F]."""

    truth: Values
    said: Mapping[str, Values]

    def errors(self, rows: Any = ..., column: Any = slice(None)) -> dict[str, dict[str, float]]:
        """MSE and MAE (1/N) Σ |ŷᵢ − yᵢ| of each forecaster, over the origins and features asked for."""
        truth = self.truth[rows][..., column]
        found = {name: said[rows][..., column] - truth for name, said in self.said.items()}
        return {name: {"mse": float((e**2).mean()), "mae": float(abs(e).mean())} for name, e in found.items()}


def judge(subject: Subject, question: Question) -> Report:
    """MSE and MAE in the data's unit over all targets, beside last value and seasonal naive: one step ahead, and
    over the horizon. Slices: periods of time, features where there are several, columns of groups."""
    known = _known(subject, question)
    steps = question.horizon or int(subject.plan.get("horizon", 1))
    runner = open_runner(subject.manifest, subject.directory, registry.load, runner_settings(question))
    try:
        net = Net(runner, subject.manifest)
        near = _compare(subject, net, known, 1)
        far = {steps: _compare(subject, net, known, steps)} if steps > 1 else {}
        held = _quantiles(subject, net, known, steps)
    finally:
        runner.close()
    one = near.errors()
    found, naive = _scores(one, ""), dict(one[LAST])
    for ahead, compared in far.items():
        errors = compared.errors()
        found |= _scores(errors, f"_{ahead}_steps")
        naive |= {f"{name}_{ahead}_steps": value for name, value in errors[LAST].items()}
    told = {"one_step": one, **{f"{ahead}_steps": compared.errors() for ahead, compared in far.items()}}
    details = {**known.details, **held, "targets": len(near.truth), "season": known.season, **told}
    return Report(found, naive, _slices(known, near), details)


def _scores(errors: Mapping[str, Mapping[str, float]], suffix: str) -> dict[str, float]:
    """The model's errors, and its skill over each naive forecast that is ever wrong."""
    own = errors[MODEL]
    skills = {
        f"skill_over_{name}{suffix}": metrics.skill(own["mse"], errors[name]["mse"])
        for name in (LAST, SEASONAL)
        if name in errors and errors[name]["mse"] > 0
    }
    return {f"{name}{suffix}": value for name, value in own.items()} | skills


def _known(subject: Subject, question: Question) -> Known:
    """The series with its first target: the test's of a named set or of what the model learnt from, else the
    first with a whole window before it."""
    window, season = subject.manifest.inputs[0].shape[1], question.season or int(subject.plan.get("season", 0))
    if question.data == SUNSPOTS:
        split = sunspots.load(subject.fetcher)
        first = max(split.test_from, window)
        return Known(split.values, first, season or split.season, split.axis, split.columns, {})
    path = file_of(question, SETS)
    time, column = (str(subject.plan.get(key, "")) for key in ("time", "column"))
    columns = read_table(path).columns
    found = series_csv.load(path, time, column, [name for name in question.slices if name in columns])
    details: dict[str, Any] = {"left_out": found.left_out, "gaps": found.gaps}
    first = window
    if learnt_from(subject, question, found.file.sha256):
        first = series_csv.split(found, window, int(subject.plan.get("horizon", 1)), season).test_from
        details["note"] = LEARNT
    # One column of another name is another series of the kind; several are known by their names.
    places = places_of(subject, found.columns) if len(found.columns) > 1 else [0]
    columns = tuple(found.columns[place] for place in places)
    return Known(found.values[:, places], first, season, found.times, columns, found.groups, details)


def _compare(subject: Subject, net: Net, known: Known, steps: int) -> Compared:
    """Every forecaster at every origin from which `steps` steps are known. InvalidInput if there is none."""
    values, first, last = known.values, known.first, len(known.values) - steps
    encode.check_steps(values[:1].astype(np.float32), subject.manifest, "data")
    if last < first:
        told = f"{first} steps before the first target and {steps} from there on are needed"
        raise InvalidInput("data", f"has {len(values)} steps; {told}: send more, or shorten the horizon")
    origins = range(first, last + 1)
    said = {
        MODEL: _forecast(subject, net, values, origins, steps),
        LAST: np.stack([last_value(values[:at], steps) for at in origins]),
    }
    if 0 < known.season <= first:
        said[SEASONAL] = np.stack([seasonal_naive(values[:at], steps, known.season) for at in origins])
    return Compared(np.stack([values[at : at + steps] for at in origins]), said)


def _forecast(subject: Subject, net: Net, values: Values, origins: range, steps: int) -> Values:
    """float64 [origins, steps, F], as Forecast answers them."""
    scaling, length = Scaling.read(subject.manifest.preprocessing), subject.manifest.inputs[0].shape[1]
    scores = scaling.apply(values)
    found: list[Any] = []
    for at in range(0, len(origins), BATCH):
        parts = [Ahead(scores[origin - length : origin], steps) for origin in origins[at : at + BATCH]]
        found += predict_ahead(net, parts)
        subject.tell(len(found), len(origins))
    return scaling.undo(np.stack(found)).astype(np.float64)


def _quantiles(subject: Subject, net: Net, known: Known, steps: int) -> dict[str, Any]:
    """How often what came lies below the quantiles that the version says; nothing for one that says none."""
    errors = spread.load(subject.manifest, subject.directory)
    if errors is None:
        return {}
    window, output = subject.manifest.inputs[0], subject.manifest.outputs[0].name
    scores = Scaling.read(subject.manifest.preprocessing).apply(known.values)
    foretold = Series(scores, range(known.first, len(scores)), window.shape[1])
    said = coverage(lambda past: net.runner.run({window.name: past})[output], foretold, (1, steps), errors)
    return {"quantiles": said}


def _slices(known: Known, near: Compared) -> dict[str, dict[str, dict[str, float]]]:
    """Errors one step ahead of each group, its skill over the last value, and how many targets it has."""
    targets = slice(known.first, known.first + len(near.truth))
    groups = {PERIOD: series.periods(known.times[targets])}
    groups |= {name: list(of_steps[targets]) for name, of_steps in known.groups.items()}
    found = {name: _by_group(near, np.asarray(values)) for name, values in groups.items()}
    if len(known.columns) > 1:
        count = {"count": float(len(near.truth))}
        found[COLUMN] = {
            name: _scores(near.errors(column=at), "") | count for at, name in enumerate(known.columns)
        }
    return found


def _by_group(near: Compared, groups: NDArray[Any]) -> dict[str, dict[str, float]]:
    return {
        str(name): _scores(near.errors(groups == name), "") | {"count": float((groups == name).sum())}
        for name in dict.fromkeys(groups.tolist())
    }
