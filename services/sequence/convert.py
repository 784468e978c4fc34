"""maas.sequence.v1 ↔ plain values. Checks what the proto's limits cannot; computes nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maas.common.v1 import tensor_pb2
from maas.sequence.v1 import sequence_service_pb2
from services.runtime import tensors
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput
from services.runtime.replies import served_by, timing
from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest
from services.runtime.text.tokenizer import require_digest
from services.runtime.token_ids import token_ids
from services.sequence.loaded import SequenceModel
from services.sequence.models import encode
from services.sequence.models.encode import Floats, Ids
from services.sequence.models.predict import unit_length

TextRequest = sequence_service_pb2.ClassifyRequest | sequence_service_pb2.EmbedRequest


def rows(model: SequenceModel, request: TextRequest, cut: bool = False) -> list[Ids]:
    """The texts or token ids of a request as rows of ids; blocking. InvalidInput for a series."""
    field = request.WhichOneof("input") or "input"
    if field == "series":
        raise InvalidInput(field, f"{model.manifest.name} reads texts or token_ids; set one of them")
    tokenizer, limit = model.tokenizer(field), encode.max_tokens(model.manifest)
    cut = cut or encode.cuts(model.manifest)
    if field == "texts":
        return encode.texts_to_ids(tokenizer, request.texts.values, limit, cut)
    found = []
    for index, message in enumerate(request.token_ids.sequences):
        at = f"token_ids.sequences[{index}]"
        require_digest(message.tokenizer_digest, tokenizer, f"{at}.tokenizer_digest")
        ids = np.array(token_ids(message.values, message.packed, at), np.int64)
        found.append(encode.check_ids(ids, tokenizer.vocab_size, limit, cut, at))
    return found


def streams(model: SequenceModel, batch: tensor_pb2.SeriesBatch) -> list[Floats]:
    """Every series as frames [T, F]; the end of the last frame of audio is silence."""
    return [frames(model, series, f"series.values[{index}]") for index, series in enumerate(batch.values)]


def frame(model: SequenceModel, series: tensor_pb2.Series) -> Floats:
    """The series of a session step as [1, F]. InvalidInput unless it is exactly one step long."""
    given, width = len(series.values) or len(series.packed) // 4, model.net.frame_width
    if given != width:
        raise InvalidInput("step.series", f"has {given} values; one step of this model is {width}")
    return frames(model, series, "step.series")


def frames(model: SequenceModel, series: tensor_pb2.Series, field: str) -> Floats:
    """[T, F] frames. InvalidInput: another rate, width or amplitude than the model's, or too long a series."""
    manifest, width = model.manifest, model.net.frame_width
    values: Floats = tensors.series(series, field)
    most = manifest.limits.get("max_values")
    if most is not None and values.size > most:
        raise InvalidInput(field, f"has {values.size} values; at most {most} are read: split it")
    encode.check_rate(series.sample_rate_hz, manifest, f"{field}.sample_rate_hz")
    if not encode.is_audio(manifest):
        return _steps(values, width, field)
    if values.shape[1] != 1:
        raise InvalidInput(f"{field}.features", f"is {values.shape[1]}; this model hears one channel: mix it down")
    return encode.to_frames(encode.check_amplitude(values[:, 0], field), width)


def _steps(values: Floats, width: int, field: str) -> Floats:
    if values.shape[1] != width:
        raise InvalidInput(f"{field}.features", f"is {values.shape[1]}; this model reads {width} values a step")
    return values


def words(model: SequenceModel, texts: Sequence[str]) -> list[list[Ids]]:
    """Each text's words as grapheme ids."""
    limit = model.manifest.limits.get("max_letters", 32)
    return encode.texts_to_words(texts, model.manifest.config, limit, "texts")


def check_asked(model: SequenceModel, request: sequence_service_pb2.ClassifyRequest) -> None:
    """InvalidInput: more labels than there are classes, or scores of steps where a net gives none."""
    name = model.manifest.name
    if request.step_scores and not model.stepwise:
        raise InvalidInput("step_scores", f"{name} gives no score a step; leave it unset")
    if request.top_k > model.classes:
        raise InvalidInput("top_k", f"is {request.top_k}; {name} has {model.classes} classes")


def classified_rows(
    model: SequenceModel, request: sequence_service_pb2.ClassifyRequest, outcome: Outcome[list[Array]]
) -> sequence_service_pb2.ClassifyResponse:
    """Class probabilities [K] of each row → labels, best first."""
    return _classified(model, outcome.value, request, outcome)


def classified_streams(
    model: SequenceModel, request: sequence_service_pb2.ClassifyRequest, outcome: Outcome[list[Floats]]
) -> sequence_service_pb2.ClassifyResponse:
    """Scores [T, K] of each series → labels by their mean over its steps, and the steps' own if asked for."""
    reply = _classified(model, [_mean_classes(scores) for scores in outcome.value], request, outcome)
    if request.step_scores:
        for result, scores in zip(reply.results, outcome.value, strict=True):
            result.step_scores.extend(scores[:, 0].tolist())
            result.step_ms = step_ms(model.manifest)
    return reply


def _mean_classes(scores: Floats) -> Floats:
    """[T, K] → [K]; a single score is the probability of the second of two classes."""
    means: Floats = scores.mean(axis=0)
    return means if len(means) > 1 else np.array([1 - means[0], means[0]], np.float32)


def _classified(
    model: SequenceModel,
    rows: Sequence[Array],
    request: sequence_service_pb2.ClassifyRequest,
    outcome: Outcome[Any],
) -> sequence_service_pb2.ClassifyResponse:
    """Scores [K] of each row → its best labels."""
    reply = sequence_service_pb2.ClassifyResponse(served_by=served_by(model.manifest), timing=timing(outcome))
    scores = np.concatenate(rows).reshape(len(rows), -1)
    reply.MergeFromString(model.ranking.results(scores, request.top_k or model.classes))
    return reply


def step_ms(manifest: Manifest) -> float:
    """Length of a step of audio; 0 for a model without a rate."""
    rate = manifest.preprocessing.get("sample_rate_hz", 0)
    return 1000 * manifest.preprocessing.get("frame_samples", 0) / rate if rate else 0.0


def embedded(
    model: SequenceModel,
    request: sequence_service_pb2.EmbedRequest,
    read: Sequence[Array],
    outcome: Outcome[list[Array]],
) -> sequence_service_pb2.EmbedResponse:
    """Vectors of texts or series → one tensor [sequences, dimensions], of unit length unless told otherwise."""
    vectors = np.stack(outcome.value)
    if request.normalize or not request.HasField("normalize"):
        vectors = unit_length(vectors)
    return sequence_service_pb2.EmbedResponse(
        embeddings=tensors.from_numpy(vectors, request.readable),
        token_counts=[len(row) for row in read],
        served_by=served_by(model.manifest),
        timing=timing(outcome),
    )


def transduced(
    model: SequenceModel, read: Sequence[Sequence[Ids]], outcome: Outcome[list[Array]]
) -> sequence_service_pb2.TransduceResponse:
    """Output ids of every word → symbols of every text."""
    answers = iter(outcome.value)
    return sequence_service_pb2.TransduceResponse(
        results=[_transduction(model, [next(answers) for _ in words]) for words in read],
        served_by=served_by(model.manifest),
        timing=timing(outcome),
    )


def _transduction(
    model: SequenceModel, answers: Sequence[Array]
) -> sequence_service_pb2.TransduceResponse.Transduction:
    config = model.manifest.config
    symbols = [symbol for ids in answers for symbol in encode.symbols(ids, config)]
    return sequence_service_pb2.TransduceResponse.Transduction(
        text=" ".join(symbols),
        symbols=symbols,
        truncated=any(int(config["stop_id"]) not in ids for ids in answers),
    )
