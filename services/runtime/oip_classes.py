"""The classification extension: an output's largest values as texts. Knows no model and no message."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def top(scores: Array, count: int, labels: Sequence[str]) -> Array:
    """Objects [..., min(count, K)] of scores [..., K], largest first: `value:index`, `:label` where there is one.

    Equal values stand in the order of their indices; floats have six decimals, as the extension's reference.
    """
    best = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")[..., :count]
    values = np.take_along_axis(scores, best, axis=-1)
    found = np.empty(best.shape, dtype=object)
    pairs = zip(values.ravel().tolist(), best.ravel().tolist(), strict=True)
    found.ravel()[:] = [_text(value, index, labels) for value, index in pairs]
    return found


def _text(value: float, index: int, labels: Sequence[str]) -> bytes:
    number = f"{value:f}" if isinstance(value, float) else str(int(value))
    return ":".join((number, str(index), *labels[index : index + 1])).encode()
