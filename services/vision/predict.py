"""What the batcher needs of a vision model: stack → runner → split. Knows no proto, no queue, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array, Runner
from services.runtime.runners.samples import synthesise
from services.runtime.runners.stopwatch import once, times
from services.runtime.store.manifest import Manifest
from services.vision.prepare import Prepared

BRIEF_MS, FAR_FROM_BRIEF = 0.2, 10


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Of one picture: class probabilities and logits float32 [classes], pooled features float32 [width].

    Of a block, a row of each for a picture. `together`: pictures computed in the same batch.
    """

    scores: Array
    logits: Array
    features: Array
    together: int = 1


class Predictor:
    """Runs batches of prepared pictures of one model, beside each other unless one is alone."""

    def __init__(self, runner: Runner, manifest: Manifest) -> None:
        self._runner, self._manifest = runner, manifest
        self._input = manifest.inputs[0].name

    def run(self, batch: Sequence[Prepared], alone: bool = True) -> list[Prediction | Exception]:
        """One prediction a picture, in order; one whose numbers overflow gets its own InvalidInput."""
        outputs = self._runner.run({self._input: stacked(batch)}, alone)
        logits, features = outputs["logits"], outputs["features"]
        scores = softmax(logits)
        finite = np.logical_and(np.isfinite(scores).all(axis=1), np.isfinite(features).all(axis=1)).tolist()
        found = Prediction(scores, logits, features, len(scores))
        ends = accumulate(len(item.rows) for item in batch)
        return [_answer(item, found, finite, end - len(item.rows)) for item, end in zip(batch, ends, strict=True)]

    def is_brief(self, most: int) -> bool:
        """Whether even `most` pictures take no longer than handing them to a thread and back. Blocking.

        A net of usual size is found out by its first run, as a start should not wait for five more.
        """
        one, many = synthesise(self._manifest, [1, most])
        return (
            once(self._runner, one) < FAR_FROM_BRIEF * BRIEF_MS
            and max(times(self._runner, [one, many])) < BRIEF_MS
        )

    def close(self) -> None:
        """Let go of the runner."""
        self._runner.close()


def stacked(batch: Sequence[Prepared]) -> Array:
    """float32 [N, C, H, W]; of a lone item a view."""
    if len(batch) == 1:
        return batch[0].rows
    return np.concatenate([item.rows for item in batch])


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis; a row with NaN or infinity becomes NaN, alone."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _answer(item: Prepared, found: Prediction, finite: Sequence[bool], at: int) -> Prediction | Exception:
    """The part of a batch's answer that begins at row `at`."""
    end = at + len(item.rows)
    if not all(finite[at:end]):
        return _overflown(item.field.format(finite.index(False, at) - at))
    part = slice(at, end) if item.pixels.ndim == 4 else at
    return Prediction(found.scores[part], found.logits[part], found.features[part], found.together)


def _overflown(field: str) -> InvalidInput:
    return InvalidInput(field, "its values are so large that the model's answer is not finite")
