"""Scores of many rows → their best classes, as the `results` of a Classify reply travel. Knows no model.

Building such messages one by one takes ten times as long as reading them out of their wire form, of which nothing
but the scores differs from call to call.
"""

from collections.abc import Sequence

import numpy as np

from services.runtime.runners.base import Array
from services.runtime.wire import framed, varint

# Classes that plain Python puts in order sooner than numpy does.
FEW = 64
# Field 1, a message: a reply's `results`, a classification's `labels`. A label's fields: number, text, float32.
INNER, INDEX, NAME, SCORE = b"\x0a", b"\x08", b"\x12", b"\x1d"
SCORE_BYTES = 4


class Ranking:
    """The classes of one model by index. Sequence and vision write labels alike: index, name, score."""

    def __init__(self, names: Sequence[str]) -> None:
        known = [INDEX + varint(at) + framed(NAME, name.encode()) + SCORE for at, name in enumerate(names)]
        self._heads = [INNER + varint(len(head) + SCORE_BYTES) + head for head in known]

    def results(self, scores: Array, count: int) -> bytes:
        """The `count` best labels of each row of float32 [N, K]: to be merged into a reply without results."""
        wire, width = scores.astype("<f4", copy=False).tobytes(), SCORE_BYTES * scores.shape[1]
        order, heads = best(scores, count).tolist(), self._heads
        places = [
            (index, at + SCORE_BYTES * index)
            for at, row in zip(range(0, len(wire), width), order, strict=True)
            for index in row
        ]
        labels = [heads[index] + wire[place : place + SCORE_BYTES] for index, place in places]
        rows = labels if count == 1 else [b"".join(labels[at : at + count]) for at in range(0, len(labels), count)]
        return b"".join([framed(INNER, row) for row in rows])


def best(scores: Array, count: int) -> Array:
    """Indices int [N, count] of the largest of each row of [N, K]; equals stand in the order of their index."""
    if count == 1:
        first: Array = scores.argmax(axis=1)
        return first[:, np.newaxis]
    if scores.shape[1] > FEW:
        return np.stack([_largest(row, count) for row in scores])
    if len(scores) > 1:
        return np.argsort(-scores, axis=1, kind="stable")[:, :count]
    values = scores[0].tolist()
    return np.array([sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]])


def _largest(scores: Array, count: int) -> Array:
    least = np.partition(scores, scores.size - count)[scores.size - count]
    candidates = np.flatnonzero(scores >= least)
    chosen: Array = candidates[np.lexsort((candidates, -scores[candidates]))][:count]
    return chosen
