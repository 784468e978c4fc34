"""A user's own series to forecast, out of a CSV file with a header. Says of each row it leaves out, why.

One column is the time (the first, unless named); columns named `slice_…` are groups by which the evaluation is
broken down; the others are values (all, unless named). Time is a number (1987, 3.5) or ISO 8601 (2024-05-01,
2024-05, 2024-05-01T12:00) and grows from row to row.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from training.data.files import TextFile
from training.data.numbers import finite, years
from training.data.series import SplitSeries, cut
from training.data.table import SLICE, Line, Table, read_table
from training.data.texts import UNKNOWN

GAP = 1.5  # times the usual step


@dataclass(frozen=True, slots=True)
class Series:
    """values float64 [T, columns], times float64 [T]; `left_out`: reason → rows; `gaps`: where time jumps.

    `groups`: slice → the group of each row.
    """

    values: NDArray[np.float64]
    times: NDArray[np.float64]
    columns: tuple[str, ...]
    left_out: dict[str, list[str]]
    gaps: list[str]
    groups: dict[str, list[str]]
    file: TextFile


def load(path: Path, time: str = "", column: str = "", slices: Sequence[str] = ()) -> Series:
    """The rows of `path` in order. `column` may name several, parted by commas; `slices` more columns of groups.

    InvalidInput: an unknown column, a row out of order, no row of use.
    """
    table = read_table(path)
    clock = table.place(time or table.columns[0], "time")
    grouped = [table.place(name, "slice") for name in slices]
    grouped += [i for i, name in enumerate(table.columns) if name.startswith(SLICE) and i not in grouped]
    others = [name for i, name in enumerate(table.columns) if i not in (clock, *grouped)]
    names = tuple(part.strip() for part in column.split(",")) if column else tuple(others)
    places = [table.place(name, "column") for name in names]
    if not places:
        raise InvalidInput("data", f"{table.file.name} has no column of values beside {', '.join(table.columns)}")
    left_out: dict[str, list[str]] = defaultdict(list)
    rows = _in_order(table, clock, _numbered(table, clock, places, left_out), left_out)
    if not rows:
        reasons = "; ".join(f"{reason}: {found[0]}, …" for reason, found in left_out.items())
        raise InvalidInput("data", f"{table.file.name} has no row of use ({reasons})")
    times = np.array([moment for _, moment, _ in rows])
    marks, groups = [line.cells[clock] for line, _, _ in rows], _groups(table, grouped, rows)
    values = np.array([value for _, _, value in rows])
    return Series(values, times, names, dict(left_out), gaps(times, marks), groups, table.file)


def _groups(table: Table, places: Sequence[int], rows: Sequence["Row"]) -> dict[str, list[str]]:
    names = [table.columns[place].removeprefix(SLICE) for place in places]
    cells = ([line.cells[place] or UNKNOWN for line, _, _ in rows] for place in places)
    return dict(zip(names, cells, strict=True))


def split(found: Series, window: int, horizon: int, season: int) -> SplitSeries:
    """70/10/20 by time. `season` 0 = none: the seasonal naive forecast is then the last value.

    InvalidInput for too few rows, or a season that is not over when the test begins.
    """
    validation_from, test_from = cut(len(found.values), window, horizon, found.left_out)
    if season > test_from:
        raise InvalidInput("season", f"is {season}; {test_from} steps lie before the test: set a smaller one")
    return SplitSeries(
        found.values,
        validation_from,
        test_from,
        max(1, season),
        found.file.source,
        found.times,
        found.columns,
        found.file.sha256,
        found.left_out,
        found.gaps,
        found.groups,
    )


Row = tuple[Line, float, list[float]]


def _numbered(table: Table, clock: int, places: list[int], left_out: dict[str, list[str]]) -> list[Row]:
    """Rows whose time and values can be read."""
    spelt = _clock(line.cells[clock] for line in table.lines)
    kept: list[Row] = []
    for line in table.lines:
        moment = spelt(line.cells[clock])
        values = [finite(line.cells[place]) for place in places]
        bad = [table.columns[place] for place, value in zip(places, values, strict=True) if value is None]
        if moment is None:
            left_out["without a time"].append(f"line {line.number}: {line.cells[clock]!r}")
        elif bad:
            cell = line.cells[table.place(bad[0])]
            left_out["without a finite number"].append(f"line {line.number}: {bad[0]} is {cell!r}")
        else:
            kept.append((line, moment, [value for value in values if value is not None]))
    return kept


def _clock(cells: Iterable[str]) -> Callable[[str], float | None]:
    """How the first time that can be read is spelt: one file tells time in one way."""
    first = next((cell for cell in cells if finite(cell) is not None or years(cell) is not None), "")
    return years if finite(first) is None else finite


def _in_order(table: Table, clock: int, rows: list[Row], left_out: dict[str, list[str]]) -> list[Row]:
    """One row a moment, the first of it. InvalidInput where time goes back."""
    kept: list[Row] = []
    for row in rows:
        line, moment, _ = row
        if kept and moment == kept[-1][1]:
            left_out["of the same time as the row before"].append(f"line {line.number}: {line.cells[clock]}")
        elif kept and moment < kept[-1][1]:
            told = f"line {line.number}: {line.cells[clock]} comes after {kept[-1][0].cells[clock]}"
            raise InvalidInput("data", f"{table.file.name} {told}; sort the rows by time")
        else:
            kept.append(row)
    return kept


def gaps(times: NDArray[np.float64], marks: list[str]) -> list[str]:
    """Where a step of time is over 1.5 times the usual one (the median)."""
    steps = np.diff(times)
    if not len(steps):
        return []
    return [f"{marks[i]} to {marks[i + 1]}" for i in np.flatnonzero(steps > GAP * np.median(steps))]
