"""Explain of maas.sequence.v1 ↔ plain values. Computes nothing."""

import numpy as np

from maas.sequence.v1 import sequence_pb2, sequence_service_pb2
from services.runtime import tensors
from services.runtime.batcher import Outcome
from services.runtime.errors import InvalidInput
from services.runtime.replies import served_by, timing
from services.runtime.text.tokenizer import require_digest
from services.runtime.token_ids import token_ids
from services.sequence import convert
from services.sequence.explain import MOST_FRAMES, Explanation, Question, Steps, Tokens
from services.sequence.loaded import SequenceModel
from services.sequence.models import encode
from services.sequence.models.encode import Ids

DEFAULT_STEPS = 50


def question(model: SequenceModel, request: sequence_service_pb2.ExplainRequest) -> Question:
    """What is asked; raises InvalidInput for a class that the model does not have."""
    target, width = request.target_index, model.manifest.outputs[0].shape[-1]
    classes = max(2, width)  # a single score is the probability of the second of two
    if target >= classes:
        raise InvalidInput(
            "target_index", f"is {target}; {model.manifest.name} has {classes} classes, from 0 to {classes - 1}"
        )
    steps = request.steps if request.HasField("steps") else DEFAULT_STEPS
    return Question(target if request.HasField("target_index") else None, steps)


def part(model: SequenceModel, request: sequence_service_pb2.ExplainRequest) -> Tokens | Steps:
    """The sequence to explain; blocking. InvalidInput for one that the model does not read."""
    if request.HasField("series"):
        return _series(model, request)
    field = request.WhichOneof("input") or "input"
    tokenizer = model.tokenizer(field)
    ids = _ids(model, request, field)
    blank = tokenizer.pad_id if tokenizer.pad_id is not None else int(model.manifest.config.get("pad_token_id", 0))
    kept = np.isin(ids, list(tokenizer.special_ids))
    return Tokens(ids, np.where(kept, ids, blank))


def explained(
    model: SequenceModel, read: Tokens | Steps, outcome: Outcome[Explanation]
) -> sequence_service_pb2.ExplainResponse:
    """One attribution a token or step; `tokens` as the vocabulary spells them."""
    found, spelling = outcome.value, []
    if isinstance(read, Tokens):
        tokenizer = model.tokenizer("text")
        spelling = [tokenizer.token(token_id) for token_id in read.ids.tolist()]
    name = model.labels[found.target] if found.target < len(model.labels) else str(found.target)
    return sequence_service_pb2.ExplainResponse(
        target=sequence_pb2.Label(index=found.target, name=name, score=found.score),
        attributions=found.attributions.tolist(),
        tokens=spelling,
        convergence_delta=found.delta,
        served_by=served_by(model.manifest),
        timing=timing(outcome),
    )


def _series(model: SequenceModel, request: sequence_service_pb2.ExplainRequest) -> Steps:
    manifest = model.manifest
    if model.net.state_specs:
        frames = convert.frames(model, request.series, "series")
        if len(frames) > MOST_FRAMES:
            raise InvalidInput("series", f"has {len(frames)} steps; at most {MOST_FRAMES} are explained: split it")
        return Steps(frames, "series")
    if not encode.is_series(manifest):
        raise InvalidInput("series", f"{manifest.name} reads a text or token_ids; set one of them")
    values = encode.check_steps(tensors.series(request.series, "series"), manifest, "series")
    return Steps(model.scaling.apply(values), "series")


def _ids(model: SequenceModel, request: sequence_service_pb2.ExplainRequest, field: str) -> Ids:
    tokenizer = model.tokenizer(field)
    limit, cut = encode.max_tokens(model.manifest), encode.cuts(model.manifest)
    if field == "text":
        return encode.text_to_ids(tokenizer, request.text, limit, cut, field)
    given = request.token_ids
    require_digest(given.tokenizer_digest, tokenizer, "token_ids.tokenizer_digest")
    ids = np.array(token_ids(given.values, given.packed, field), np.int64)
    return encode.check_ids(ids, tokenizer.vocab_size, limit, cut, field)
