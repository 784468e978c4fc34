"""Series of maas.sequence.v1 ↔ standard scores, for nets that read whole series. Computes nothing."""

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
    scaling = Scaling.read(manifest.preprocessing)
    read = [
        (f"series.values[{i}]", tensors.series(one, f"series.values[{i}]")) for i, one in enumerate(batch.values)
    ]
    return [scaling.apply(encode.check_steps(values, manifest, field)) for field, values in read]


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
