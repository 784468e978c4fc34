"""The fixed cut of labelled rows into fitting, choosing and the one final look. Knows no kind of row."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput

Rows = NDArray[np.int64]
LeftOut = Mapping[str, Sequence[str]]  # reason → the rows' names

MIN_PER_CLASS = 5
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MOST_NAMED = 100  # rows left out that a report names for each reason


def by_content(
    digests: Sequence[bytes], labels: Rows, names: Sequence[str], what: str, left_out: LeftOut
) -> tuple[Rows, Rows, Rows]:
    """Places of [train, validation, test]: 70/10/20 class by class, one row at least of each.

    The order within a class is that of `digests`: it depends on no file name, no place and no seed.
    Raises InvalidInput for fewer than two classes or a class of too few rows; `what` is the rows' plural,
    `left_out` may be why there are no more.
    """
    if len(names) < 2:
        raise InvalidInput(
            "data", f"has {len(names)} class ({', '.join(names)}); two are needed{because(left_out)}"
        )
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        if len(rows) < MIN_PER_CLASS:
            told = f"class {name} has {len(rows)} {what} of use; at least {MIN_PER_CLASS}"
            raise InvalidInput("data", told + because(left_out))
        order = sorted(rows.tolist(), key=lambda row: digests[row])
        test = max(1, round(TEST_SHARE * len(order)))
        held = test + max(1, round(VALIDATION_SHARE * len(order)))
        for part, chosen in zip(parts, (order[held:], order[test:held], order[:test]), strict=True):
            part.extend(chosen)
    train, validation, test_rows = (np.array(part, np.int64) for part in parts)
    return train, validation, test_rows


def check_kept(before: Rows, after: Rows) -> None:
    """InvalidInput if a class of the training rows has none left; both int [N], the rows' classes."""
    if len(np.unique(after)) < len(np.unique(before)):
        told = "a class has no training row left that differs from every held-out row"
        raise InvalidInput("data", f"{told}: give rows that differ, or read more of each")


def because(left_out: LeftOut) -> str:
    """What an error of too little data adds: how many rows were left out for which reason, and the first."""
    found = [f"{len(rows)} {reason} ({rows[0]})" for reason, rows in left_out.items() if rows]
    return f"; left out: {', '.join(found)}" if found else ""


def named(left_out: LeftOut) -> dict[str, list[str]]:
    """What a report keeps of the rows that were left out: the first of each reason."""
    return {reason: list(rows[:MOST_NAMED]) for reason, rows in left_out.items() if rows}


def fingerprint(rows: Iterable[bytes]) -> dict[str, Any]:
    """How many rows a part has, and the sha256 of all of them in order: what is written down of a cut."""
    made, count = hashlib.sha256(), 0
    for row in rows:
        made.update(len(row).to_bytes(8) + row)
        count += 1
    return {"rows": count, "sha256": made.hexdigest()}


def told(train: int, validation: int, test: int, left_out: LeftOut, what: str = "rows") -> str:
    """Rows of each part, and how many were left out for which reason."""
    reasons = [f"{len(rows)} {reason}" for reason, rows in left_out.items() if rows]
    sizes = f"{train} training, {validation} validation, {test} test {what}"
    return f"{sizes}; left out: {', '.join(reasons) or 'none'}"
