"""Protos ↔ the service's plain values. Computes nothing but the order of labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput
from services.runtime.replies import served_by, timing
from services.runtime.runners.base import Array
from services.runtime.tensors import from_numpy, listed, to_numpy
from services.vision.explain import Explanation, Method, Question
from services.vision.model import VisionModel
from services.vision.predict import Prediction
from services.vision.prepare import Picture

DEFAULT_TOP_K = 5
DEFAULT_STEPS = 50
METHODS = {
    vision_pb2.EXPLAIN_METHOD_UNSPECIFIED: Method.INTEGRATED_GRADIENTS,
    vision_pb2.EXPLAIN_METHOD_INTEGRATED_GRADIENTS: Method.INTEGRATED_GRADIENTS,
    vision_pb2.EXPLAIN_METHOD_GRAD_CAM: Method.GRAD_CAM,
}

Answers = Sequence[Outcome[Prediction]]


def pictures(images: Sequence[vision_pb2.Image], prefix: str = "") -> list[Picture]:
    """Field paths are `images[i]`, behind `prefix`."""
    return [picture(image, f"{prefix}images[{index}]") for index, image in enumerate(images)]


def is_listed(images: Sequence[vision_pb2.Image]) -> bool:
    """Whether pixels come as lists of numbers, which take long to read; the other forms are only looked at."""
    return any(image.HasField("pixels") and listed(image.pixels) for image in images)


def top_k(request: vision_service_pb2.ClassifyRequest, model: VisionModel, prefix: str = "") -> int:
    """How many labels; raises InvalidInput for more than the model has classes."""
    classes = len(model.labels)
    if not request.HasField("top_k"):
        return min(DEFAULT_TOP_K, classes)
    if request.top_k > classes:
        raise InvalidInput(f"{prefix}top_k", f"is {request.top_k}; {model.manifest.name} has {classes} classes")
    return request.top_k


def classified(answers: Answers, model: VisionModel, count: int) -> vision_service_pb2.ClassifyResponse:
    """The `count` best labels of each picture."""
    return _classified(np.stack([answer.value.scores for answer in answers]), slowest(answers), model, count)


def classified_rows(
    outcome: Outcome[Prediction], model: VisionModel, count: int
) -> vision_service_pb2.ClassifyResponse:
    """The same for the rows of a block."""
    return _classified(outcome.value.scores, outcome, model, count)


def _classified(
    scores: Array, outcome: Outcome[Any], model: VisionModel, count: int
) -> vision_service_pb2.ClassifyResponse:
    reply = vision_service_pb2.ClassifyResponse(served_by=served_by(model.manifest), timing=timing(outcome))
    reply.MergeFromString(model.ranking.results(scores, count))
    return reply


def embedded(
    answers: Answers, model: VisionModel, normalize: bool, readable: bool
) -> vision_service_pb2.EmbedResponse:
    """Features as one FP32 [images, width] tensor; `normalize` scales each row to length 1."""
    rows = np.stack([answer.value.features for answer in answers])
    if normalize:
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
    return vision_service_pb2.EmbedResponse(
        embeddings=from_numpy(rows, readable),
        served_by=served_by(model.manifest),
        timing=timing(slowest(answers)),
    )


def question(request: vision_service_pb2.ExplainRequest, model: VisionModel) -> Question:
    """What is asked; raises InvalidInput for a class that the model does not have."""
    classes, target = len(model.labels), request.target_index if request.HasField("target_index") else None
    if target is not None and target >= classes:
        raise InvalidInput(
            "target_index", f"is {target}; {model.manifest.name} has {classes} classes, from 0 to {classes - 1}"
        )
    steps = request.steps if request.HasField("steps") else DEFAULT_STEPS
    return Question(target, METHODS[request.method], steps, request.overlay)


def explained(outcome: Outcome[Explanation], model: VisionModel) -> vision_service_pb2.ExplainResponse:
    """The heat map as FP32 [height, width]."""
    found = outcome.value
    return vision_service_pb2.ExplainResponse(
        target=vision_pb2.Label(index=found.target, name=model.labels[found.target], score=found.score),
        attributions=from_numpy(found.heat),
        overlay_png=found.png,
        convergence_delta=found.delta,
        served_by=served_by(model.manifest),
        timing=timing(outcome),
    )


def slowest(answers: Answers) -> Outcome[object]:
    """Timing of a call whose pictures travelled in several batches: the longest wait, the longest compute."""
    return Outcome(
        None,
        max(answer.queue_ms for answer in answers),
        max(answer.compute_ms for answer in answers),
        max(answer.batch_size for answer in answers),
    )


def picture(image: vision_pb2.Image, field: str) -> Picture:
    """Its pixels or its file; errors name it by `field`."""
    if image.HasField("pixels"):
        return Picture(f"{field}.pixels", to_numpy(image.pixels, f"{field}.pixels"))
    return Picture(f"{field}.encoded", image.encoded)
