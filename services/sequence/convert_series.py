"""Series of maas.sequence.v1 ↔ standard scores, for nets that read whole series. Computes nothing."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from services.runtime import tensors
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.replies import served_by, timing
from services.sequence.loaded import SequenceModel
from services.sequence.models import encode, spread
from services.sequence.models.encode import Floats
from services.sequence.models.forecast import last_window

MOST_VALUES = 1 << 24  # of all paths of a forecast, 64 MiB


def series_rows(model: SequenceModel, batch: tensor_pb2.SeriesBatch) -> list[Floats]:
    """Standard scores [T, F] of every series. InvalidInput for a net that reads none, another width, too much."""
    manifest = model.manifest
    if not encode.is_series(manifest):
        raise InvalidInput("series", f"{manifest.name} reads texts or token_ids; set one of them")
    fields = [f"series.values[{index}]" for index in range(len(batch.values))]
    read = [
        encode.check_steps(tensors.unchecked_series(one, field), manifest, field)
        for one, field in zip(batch.values, fields, strict=True)
    ]
    scores = model.scaling.apply(_finite(read, fields))
    ends = accumulate(map(len, read))
    return [scores[end - len(values) : end] for values, end in zip(read, ends, strict=True)]


def _finite(read: Sequence[Floats], fields: Sequence[str]) -> Floats:
    """All steps of all series, one below the other. InvalidInput names the first value that is no number."""
    steps = np.concatenate(read) if len(read) > 1 else read[0]
    if not np.isfinite(steps).all():
        for values, field in zip(read, fields, strict=True):
            tensors.check_finite_series(values, field)
    return steps


def window(model: SequenceModel, request: sequence_service_pb2.ForecastRequest) -> Floats:
    """Standard scores [W, F] of the last steps given.

    InvalidInput: no number, too few steps, a quantile that is none. PreconditionFailed: quantiles of a version
    that cannot say them.
    """
    if request.quantiles:
        _check_quantiles(model, request)
    values = last_window(tensors.series(request.series, "series"), model.manifest, "series")
    return model.scaling.apply(values)


def _check_quantiles(model: SequenceModel, request: sequence_service_pb2.ForecastRequest) -> None:
    for index, quantile in enumerate(request.quantiles):
        if not 0 < quantile < 1:
            raise InvalidInput(f"quantiles[{index}]", f"is {quantile:g}; a quantile lies between 0 and 1")
    paths, (steps, features) = spread.count_paths(len(errors(model))), model.manifest.inputs[0].shape[1:]
    most = MOST_VALUES // (paths * features) - steps
    if request.horizon_steps > most:
        told = (
            f"is {request.horizon_steps}; with quantiles {model.manifest.name} looks at most {max(0, most)} ahead"
        )
        raise InvalidInput("horizon_steps", told)


def errors(model: SequenceModel) -> Floats:
    """What its forecasts were wrong by, standard scores [N, F]. PreconditionFailed for a version without."""
    if model.errors is None:
        raise PreconditionFailed(
            f"quantiles: version {model.manifest.version} of {model.manifest.name} keeps no {spread.FILE} to tell "
            "them from; train and publish it again, or leave them out",
            reason="NO_RESIDUALS",
        )
    return model.errors


def forecast(model: SequenceModel, outcome: Outcome[Floats]) -> sequence_service_pb2.ForecastResponse:
    """Standard scores [steps, F] → values in the unit of the series, step by step."""
    values = model.scaling.undo(outcome.value)
    return sequence_service_pb2.ForecastResponse(
        values=values.ravel().tolist(), served_by=served_by(model.manifest), timing=timing(outcome)
    )


def with_quantiles(
    model: SequenceModel, wanted: Sequence[float], outcome: Outcome[Any], paths: Sequence[Floats]
) -> sequence_service_pb2.ForecastResponse:
    """As `forecast`, and of paths [P, F] a step the quantiles in the unit of the series."""
    reply, said = forecast(model, outcome), spread.quantiles(np.stack(paths), wanted)
    for quantile, values in zip(wanted, model.scaling.undo(said), strict=True):
        reply.quantiles.add(quantile=quantile, values=values.ravel().tolist())
    return reply
