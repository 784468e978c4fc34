"""Rows as our services take them: series in their own unit, pictures already normalised. Measures nothing."""

from pathlib import Path

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.tensors import from_numpy
from services.sequence.models.scaling import Scaling
from tests.bench.peers.serving.spec import Model
from tests.bench.servers import Server
from tests.bench.serving import models, oip
from tests.bench.serving.models import LSTM
from tests.bench.serving.ways import Way, always

VISION, VISION_STREAM = (f"/maas.vision.v1.VisionService/{rpc}" for rpc in ("Classify", "ClassifyStream"))
SEQUENCE = "/maas.sequence.v1.SequenceService/Classify"


def way(server: Server, model: Model, rows: oip.Array, right: list[int], store: Path, *, streamed: bool) -> Way:
    """Classify in our own words; series are streamed in those of the Open Inference Protocol."""
    if model.name == LSTM:
        return _of_series(server, model, _in_unit(rows, store), right, streamed)
    return _of_pictures(server, model, rows, right, streamed)


def _in_unit(rows: oip.Array, store: Path) -> oip.Array:
    """Standard scores → what the sensors would have said."""
    manifest, _ = models.directory(store, LSTM)
    return Scaling.read(manifest.preprocessing).undo(rows).astype(np.float32)


def _of_series(server: Server, model: Model, rows: oip.Array, right: list[int], streamed: bool) -> Way:
    if streamed:
        body = always(oip.request(model.name, {model.inputs[0].name: rows}))
        return Way((server,), oip.STREAM, body, _streamed_scores, right, streamed=True)
    series = [tensor_pb2.Series(packed=row.tobytes(), features=row.shape[1]) for row in rows]
    batch = tensor_pb2.SeriesBatch(values=series)
    request = sequence_service_pb2.ClassifyRequest(model=model.name, series=batch, top_k=1)
    return Way((server,), SEQUENCE, always(request.SerializeToString()), _series_classes, right, units=len(rows))


def _of_pictures(server: Server, model: Model, rows: oip.Array, right: list[int], streamed: bool) -> Way:
    images = [vision_pb2.Image(pixels=from_numpy(row)) for row in rows]
    request = vision_service_pb2.ClassifyRequest(model=model.name, images=images, top_k=1)
    if not streamed:
        return Way((server,), VISION, always(request.SerializeToString()), _classes, right, units=len(rows))
    message = vision_service_pb2.ClassifyStreamRequest(request=request)
    return Way((server,), VISION_STREAM, always(message.SerializeToString()), _streamed, right, streamed=True)


def _series_classes(reply: bytes) -> list[int]:
    found = sequence_service_pb2.ClassifyResponse.FromString(reply)
    return [one.labels[0].index for one in found.results]


def _classes(reply: bytes) -> list[int]:
    return [one.labels[0].index for one in vision_service_pb2.ClassifyResponse.FromString(reply).results]


def _streamed(reply: bytes) -> list[int]:
    found = vision_service_pb2.ClassifyStreamResponse.FromString(reply)
    return [one.labels[0].index for one in found.response.results]


def _streamed_scores(reply: bytes) -> list[int]:
    return np.argmax(oip.streamed_output(reply), axis=1).tolist()
