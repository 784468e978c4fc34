"""One series cut in time, and the periods of its held-out part. Knows no files and no model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import InvalidInput
from training.data.cut import LeftOut, because, fingerprint

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
LEAST_WINDOWS, MOST_GAPS = 10, 5
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SplitSeries:
    """One series float64 [steps, features], cut in time: fitting, then choosing, then the one final look.

    `times` are the steps' places on the axis of time (years, or the file's own numbers), `columns` the features,
    `groups` for each slice name the group of each step.
    """

    values: NDArray[np.float64]
    validation_from: int
    test_from: int
    season: int
    source: str
    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    columns: tuple[str, ...] = ()
    sha256: str = ""
    left_out: LeftOut = field(default_factory=dict)
    gaps: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def axis(self) -> NDArray[np.float64]:
        """`times`, or the steps' numbers where none are told."""
        return self.times if len(self.times) else np.arange(len(self.values), dtype=np.float64)

    def told(self) -> str:
        """Which steps belong to which part, what was left out, and where time jumps."""
        axis = self.axis
        bounds = (0, self.validation_from, self.test_from, len(self.values))
        parts = zip(("fitted to", "chosen by", "tested on"), bounds, bounds[1:], strict=False)
        spans = [f"{word} {axis[a]:.6g} to {axis[b - 1]:.6g} ({b - a} steps)" for word, a, b in parts]
        reasons = [f"{len(rows)} {reason}" for reason, rows in self.left_out.items() if rows]
        gaps = f"; gaps of time: {', '.join(self.gaps[:MOST_GAPS])}" if self.gaps else ""
        return f"{', '.join(spans)}; left out: {', '.join(reasons) or 'none'}{gaps}"

    def parts(self) -> dict[str, Any]:
        """How many steps each part has, their hash, and the time of the first."""
        bounds = (0, self.validation_from, self.test_from, len(self.values))
        return {
            name: {**fingerprint(row.tobytes() for row in self.values[a:b]), "from": float(self.axis[a])}
            for name, a, b in zip(("train", "validation", "test"), bounds, bounds[1:], strict=False)
        }


def cut(steps: int, window: int, horizon: int, left_out: LeftOut) -> tuple[int, int]:
    """(first validation step, first test step): the last 20 % are the test, the 10 % before them choose.

    InvalidInput if a part is too short for `window` steps of past and a forecast of `horizon` steps.
    """
    test_from = steps - round(TEST_SHARE * steps)
    validation_from = test_from - max(1, round(VALIDATION_SHARE * steps))
    if steps - test_from < max(2, horizon) or validation_from < window + LEAST_WINDOWS:
        parts = f"{steps} rows are too few for a window of {window} and a horizon of {horizon}"
        parts += f": 70 % must hold {window + LEAST_WINDOWS}, 20 % must hold {max(2, horizon)}"
        raise InvalidInput(
            "data", f"{parts}; give more rows, or set a smaller window or horizon{because(left_out)}"
        )
    return validation_from, test_from


def periods(times: NDArray[np.float64]) -> list[str]:
    """The period of each moment: of the largest power of ten that is half of the whole time at most.

    1990 … 2009 are decades, 2015.0 … 2018.9 years.
    """
    if len(times) < 2:
        return ["all"] * len(times)
    whole = (
        float(times[-1] - times[0]) * len(times) / (len(times) - 1)
    )  # the last step lasts as long as the others
    width = 10.0 ** math.floor(math.log10(whole / 2) + ROUNDING)
    digits = max(0, -math.floor(math.log10(width)))
    starts = np.floor(times / width + ROUNDING) * width
    last = width - 1 if width > 1 else width
    if width == 1:
        return [f"{start:.0f}" for start in starts]
    return [f"{start:.{digits}f} to {start + last:.{digits}f}" for start in starts]
