"""Labelled sequences in memory and their splits: rows of any length, numbers or token ids. Knows no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.cut import LeftOut, check_kept, fingerprint, told

Row = NDArray[Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sequences:
    """One array a row, its class, and for each slice name the group of each row."""

    rows: Sequence[Row]
    labels: Labels
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[Any]) -> "Sequences":
        groups = {name: [values[i] for i in chosen] for name, values in self.groups.items()}
        return Sequences([self.rows[i] for i in chosen], self.labels[chosen], groups)


@dataclass(frozen=True, slots=True)
class SequenceSplit:
    """Disjoint rows for fitting, for choosing and for the one final look; which were left out, and why.

    `sha256` is of the data as it was read.
    """

    train: Sequences
    validation: Sequences
    test: Sequences
    class_names: tuple[str, ...]
    source: str
    dropped: LeftOut = field(default_factory=dict)
    sha256: str = ""

    def parts(self) -> dict[str, Any]:
        """How many rows each part has, and their hash."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: fingerprint(row.tobytes() for row in part.rows) for name, part in parts.items()}

    def told(self) -> str:
        """Rows of each part, and how many were left out for which reason."""
        return told(len(self.train), len(self.validation), len(self.test), self.dropped)


def split_each_class(labels: Labels, per_class: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows [kept], [split off]: `per_class` of every class by a fixed permutation, so the same rows every time."""
    order = np.random.default_rng(seed).permutation(len(labels))
    found = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    chosen = np.sort(np.concatenate(found))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def without_leaks(train: Sequences, *held_out: Sequences) -> tuple[Sequences, list[str]]:
    """Training rows that equal no held-out row, and the places of those that do. InvalidInput: a class has
    no such row."""
    seen = {row.tobytes() for rows in held_out for row in rows.rows}
    clean = np.array([row.tobytes() not in seen for row in train.rows], bool)
    check_kept(train.labels, train.labels[clean])
    return train.select(np.flatnonzero(clean)), [f"row {row}" for row in np.flatnonzero(~clean)]
