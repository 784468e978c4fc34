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
from services.sequence.models.scaling import Scaling

FORECAST = "sequence.forecast"


def series_input(manifest: Manifest) -> TensorSpec:
    """FP32 [rows, steps, features]."""
    return TensorSpec(name=manifest.inputs[0].name, dtype="FP32", shape=manifest.inputs[0].shape)


def series_output(manifest: Manifest) -> TensorSpec:
    """The next step [rows, features] of a forecaster, the probabilities [rows, classes] of a classifier."""
    name = manifest.outputs[0].name if FORECAST in manifest.tasks else "probabilities"
    return TensorSpec(name=name, dtype="FP32", shape=manifest.outputs[0].shape)


async def infer_series(model: SequenceModel, rows: Array) -> Floats:
    """One answer a row of [rows, steps, features]. InvalidInput names a value that is no number."""
    scaling = Scaling.read(model.manifest.preprocessing)
    await asyncio.to_thread(check_finite, rows, model.manifest.inputs[0].name)
    scores = list(await asyncio.to_thread(scaling.apply, rows))
    if FORECAST not in model.manifest.tasks:
        return np.stack((await compute.answer_rows(model, scores, predict_series)).value)
    found = await model.compute(Work(predict_ahead, [Ahead(window, 1) for window in scores], rows[..., 0].size))
    return scaling.undo(np.concatenate(found.value))


def check_finite(rows: Array, name: str) -> None:
    """InvalidInput names the first value that is no finite number."""
    bad = np.argwhere(~np.isfinite(rows))
    if len(bad):
        place = "".join(f"[{axis}]" for axis in bad[0])
        raise InvalidInput(f"{name}{place}", f"is {rows[tuple(bad[0])]}; a finite number is needed")
