"""Series of maas.sequence.v1 ↔ standard scores, for nets that read whole series. Computes nothing."""

from collections.abc import Sequence

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from services.runtime import tensors
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput, Unimplemented
from services.runtime.replies import served_by, timing
from services.sequence.loaded import SequenceModel
from services.sequence.models import encode
from services.sequence.models.encode import Floats
from services.sequence.models.forecast import last_window
from services.sequence.models.scaling import Scaling


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
    ends = np.cumsum([len(values) for values in read]).tolist()
    return [scores[end - len(values) : end] for values, end in zip(read, ends, strict=True)]


def _finite(read: Sequence[Floats], fields: Sequence[str]) -> Floats:
    """All steps of all series, one below the other. InvalidInput names the first value that is no number."""
    steps = np.concatenate(read) if len(read) > 1 else read[0]
    if not np.isfinite(steps).all():
        for values, field in zip(read, fields, strict=True):
            tensors.check_finite_series(values, field)
    return steps


def window(model: SequenceModel, request: sequence_service_pb2.ForecastRequest) -> Floats:
    """Standard scores [W, F] of the last steps given. InvalidInput: no number, or too few steps."""
    if request.quantiles:
        raise Unimplemented("quantiles are not served: this model says one value a step; leave them out")
    values = last_window(tensors.series(request.series, "series"), model.manifest, "series")
    return Scaling.read(model.manifest.preprocessing).apply(values)


def forecast(model: SequenceModel, outcome: Outcome[Floats]) -> sequence_service_pb2.ForecastResponse:
    """Standard scores [steps, F] → values in the unit of the series, step by step."""
    values = Scaling.read(model.manifest.preprocessing).undo(outcome.value)
    return sequence_service_pb2.ForecastResponse(
        values=values.ravel().tolist(), served_by=served_by(model.manifest), timing=timing(outcome)
    )
