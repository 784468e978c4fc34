"""A user's own series to classify, out of a CSV file with a header. Says of each row it leaves out, why.

One step a row: the columns `series` (which series the row belongs to), `step` (a number: its place there), `label`
(the class of the series), any columns named `slice_…` (its groups); all other columns are the features.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from training.data import cut
from training.data.files import TextFile
from training.data.labelled import Sequences, SequenceSplit
from training.data.numbers import finite
from training.data.table import SLICE, Line, Table, read_table

SERIES, STEP, LABEL = "series", "step", "label"
MOST_STEPS = 10_000  # of one series; what is served takes no longer ones


@dataclass(slots=True)
class OneSeries:
    """The rows of one series so far: class, groups, and (step, features) of each row."""

    label: str
    groups: tuple[str, ...]
    steps: dict[float, list[float]] = field(default_factory=dict)

    def values(self) -> NDArray[np.float64]:
        """float64 [steps, features], by step."""
        return np.array([self.steps[step] for step in sorted(self.steps)])


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """Series that are fit for use, each once, in the file's order; what was left out, by reason."""

    every: Sequences
    class_names: tuple[str, ...]
    features: tuple[str, ...]
    left_out: dict[str, list[str]]
    file: TextFile


def load(path: Path) -> LabelledSeries:
    """Every series of `path`. InvalidInput: a missing column, a row without series or label, two labels of one
    series, no series of use."""
    table = read_table(path)
    slices = tuple(name for name in table.columns if name.startswith(SLICE))
    features = tuple(name for name in table.columns if name not in (SERIES, STEP, LABEL, *slices))
    if not features:
        raise InvalidInput(
            "data", f"{table.file.name} has no column of features beside {', '.join(table.columns)}"
        )
    left_out: dict[str, list[str]] = defaultdict(list)
    found = _clean(_collect(table, slices, features, left_out), left_out)
    if not found:
        raise InvalidInput("data", f"{table.file.name} holds no series of use")
    names = tuple(sorted({one.label for one in found}))
    labels = np.array([names.index(one.label) for one in found], np.int64)
    groups = {name[len(SLICE) :]: [one.groups[place] for one in found] for place, name in enumerate(slices)}
    rows = [one.values() for one in found]
    return LabelledSeries(Sequences(rows, labels, groups), names, features, dict(left_out), table.file)


def split(found: LabelledSeries) -> SequenceSplit:
    """70/10/20 of each class by the hash of the values."""
    digests = [hashlib.sha256(row.tobytes()).digest() for row in found.every.rows]
    parts = cut.by_content(digests, found.every.labels, found.class_names, "series", found.left_out)
    train, validation, test = (found.every.select(part) for part in parts)
    return SequenceSplit(
        train, validation, test, found.class_names, found.file.source, found.left_out, found.file.sha256
    )


def _collect(
    table: Table, slices: tuple[str, ...], features: tuple[str, ...], left_out: dict[str, list[str]]
) -> dict[str, OneSeries]:
    series, step, label = (table.place(name) for name in (SERIES, STEP, LABEL))
    grouped, measured = ([table.place(name) for name in names] for names in (slices, features))
    found: dict[str, OneSeries] = {}
    for line in table.lines:
        cells = line.cells
        one = _series_of(
            found, table, line, cells[series], " ".join(cells[label].split()), tuple(cells[p] for p in grouped)
        )
        place, values = finite(cells[step]), [finite(cells[p]) for p in measured]
        if place is None or None in values:
            bad = STEP if place is None else features[values.index(None)]
            told = f"line {line.number}: {bad} is {cells[table.place(bad)]!r}"
            left_out["steps without a finite number"].append(told)
        elif place in one.steps:
            left_out["steps that were there before"].append(f"line {line.number}: {cells[series]} {cells[step]}")
        else:
            one.steps[place] = [value for value in values if value is not None]
    return found


def _series_of(
    found: dict[str, OneSeries], table: Table, line: Line, name: str, label: str, groups: tuple[str, ...]
) -> OneSeries:
    """The series that a row belongs to; what the rows of one series say of it must be the same."""
    where = f"{table.file.name} line {line.number}"
    if not name or not label:
        raise InvalidInput("data", f"{where} has no {LABEL if name else SERIES}")
    one = found.setdefault(name, OneSeries(label, groups))
    if one.label != label:
        raise InvalidInput("data", f"{where}: series {name} is {label} here and {one.label} before; one is needed")
    if one.groups != groups:
        raise InvalidInput("data", f"{where}: series {name} is of {groups} here and of {one.groups} before")
    return one


def _clean(found: dict[str, OneSeries], left_out: dict[str, list[str]]) -> list[OneSeries]:
    """Series of a possible length, each once."""
    seen: dict[bytes, str] = {}
    kept: list[OneSeries] = []
    for name, one in found.items():
        values = one.values()
        first = seen.setdefault(values.tobytes(), name)
        if not len(values):
            left_out["series without a step"].append(name)
        elif len(values) > MOST_STEPS:
            left_out[f"series of over {MOST_STEPS} steps"].append(name)
        elif first != name:
            kind = "another" if found[first].label == one.label else "one of another class"
            left_out[f"series that copy {kind}"].append(f"{name} = {first}")
        else:
            kept.append(one)
    return kept
