"""What the batcher needs of a vision model: stack → runner → split. Knows no proto, no queue, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array, Runner
from services.runtime.store.manifest import Manifest
from services.vision.prepare import Prepared


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Of one picture: class probabilities and logits float32 [classes], pooled features float32 [width]."""

    scores: Array
    logits: Array
    features: Array


class Predictor:
    """Runs batches of prepared pictures of one model, beside each other unless one is alone."""

    def __init__(self, runner: Runner, manifest: Manifest) -> None:
        self._runner = runner
        self._input = manifest.inputs[0].name

    def run(self, batch: Sequence[Prepared], alone: bool = True) -> list[Prediction | Exception]:
        """One prediction a picture, in order; one whose numbers overflow gets its own InvalidInput."""
        outputs = self._runner.run({self._input: stacked(batch)}, alone)
        logits, features = outputs["logits"], outputs["features"]
        scores = softmax(logits)
        finite = np.logical_and(np.isfinite(scores).all(axis=1), np.isfinite(features).all(axis=1))
        rows = zip(batch, finite, scores, logits, features, strict=True)
        return [Prediction(*numbers) if fine else _overflown(item) for item, fine, *numbers in rows]

    def close(self) -> None:
        """Let go of the runner."""
        self._runner.close()


def stacked(batch: Sequence[Prepared]) -> Array:
    """float32 [N, C, H, W]; of one picture a view."""
    if len(batch) == 1:
        return batch[0].pixels[np.newaxis]
    return np.stack([item.pixels for item in batch])


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis; a row with NaN or infinity becomes NaN, alone."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _overflown(item: Prepared) -> InvalidInput:
    return InvalidInput(item.field, "its values are so large that the model's answer is not finite")
