"""Whole series as the Open Inference Protocol sees them: FP32, in the unit they were measured in."""

import asyncio

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest, TensorSpec
from services.sequence import compute
from services.sequence.loaded import SequenceModel, Work
from services.sequence.models.encode import Floats
from services.sequence.models.forecast import Ahead, predict_ahead
from services.sequence.models.predict import predict_series

FORECAST = "sequence.forecast"
# Values read on the event loop; more go to a thread, whose start costs as much as reading these.
MOST_READ_HERE = 32 * 1024


def series_input(manifest: Manifest) -> TensorSpec:
    """FP32 [rows, steps, features]."""
    return TensorSpec(name=manifest.inputs[0].name, dtype="FP32", shape=manifest.inputs[0].shape)


def series_output(manifest: Manifest) -> TensorSpec:
    """The next step [rows, features] of a forecaster, the probabilities [rows, classes] of a classifier."""
    name = manifest.outputs[0].name if FORECAST in manifest.tasks else "probabilities"
    return TensorSpec(name=name, dtype="FP32", shape=manifest.outputs[0].shape)


async def infer_series(model: SequenceModel, rows: Array) -> Floats:
    """One answer a row of [rows, steps, features]. InvalidInput names a value that is no number."""
    small = rows.size <= MOST_READ_HERE
    scores = _read(model, rows) if small else await asyncio.to_thread(_read, model, rows)
    if FORECAST not in model.manifest.tasks:
        return np.stack((await compute.answer_rows(model, scores, predict_series)).value)
    found = await model.compute(Work(predict_ahead, [Ahead(window, 1) for window in scores], rows[..., 0].size))
    return model.scaling.undo(np.concatenate(found.value))


def _read(model: SequenceModel, rows: Array) -> list[Floats]:
    check_finite(rows, model.manifest.inputs[0].name)
    return list(model.scaling.apply(rows))


def check_finite(rows: Array, name: str) -> None:
    """InvalidInput names the first value that is no finite number."""
    if not np.isfinite(rows).all():
        bad = np.argwhere(~np.isfinite(rows))
        place = "".join(f"[{axis}]" for axis in bad[0])
        raise InvalidInput(f"{name}{place}", f"is {rows[tuple(bad[0])]}; a finite number is needed")
