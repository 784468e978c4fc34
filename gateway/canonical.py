"""One spelling for all requests that must have the same answer. Pure: protobuf in, bytes out."""

import sys
from array import array
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from maas.tokenization.v1 import tokenization_pb2

Rewrite = Callable[[Any], None]

_TOKENIZATION, _VISION = "maas.tokenization.v1.", "maas.vision.v1."
_SEQUENCE, _GENERATION = "maas.sequence.v1.", "maas.generation.v1."

# What an unset field means, as the contracts say. Not in here: what a model may refuse when it is set (top_k 5 of
# 3 classes), since a key knows nothing of models.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    _TOKENIZATION + "TokenizeRequest": {
        "add_special_tokens": True,
        "offset_unit": tokenization_pb2.OFFSET_UNIT_CODE_POINT,
    },
    _TOKENIZATION + "Truncation": {
        "side": tokenization_pb2.SIDE_RIGHT,
        "strategy": tokenization_pb2.TRUNCATION_STRATEGY_LONGEST_FIRST,
    },
    _TOKENIZATION + "Padding": {
        "to": tokenization_pb2.PADDING_TARGET_LONGEST,
        "side": tokenization_pb2.SIDE_RIGHT,
    },
    _TOKENIZATION + "DetokenizeRequest": {"skip_special_tokens": True},
    _TOKENIZATION + "CountTokensRequest": {"add_special_tokens": True},
    _TOKENIZATION + "RenderChatRequest": {"add_generation_prompt": True},
    _VISION + "ExplainRequest": {"steps": 50},
    _SEQUENCE + "EmbedRequest": {"normalize": True},
    _SEQUENCE + "ExplainRequest": {"steps": 50},
    _GENERATION + "ScoreRequest": {"tokens": True, "top_logprobs": 0},
    _GENERATION + "Sampling": {
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "n": 1,
        "num_beams": 1,
        "length_penalty": 1.0,
    },
    _GENERATION + "Stopping": {"max_tokens": 256, "min_tokens": 0, "ignore_eos": False, "include_stop": False},
    _GENERATION + "Output": {"echo": False, "skip_special_tokens": True},
    "maas.common.v1.Series": {"features": 1},
}
# An absent message of these means the same as an empty one.
_PRESENT: Mapping[str, tuple[str, ...]] = {
    _TOKENIZATION + "TokenizeRequest": ("include",),
    _GENERATION + "GenerateRequest": ("sampling", "stopping", "output"),
}
# Cannot change an answer. Model and version are in the key as the digest.
_IRRELEVANT: Mapping[str, tuple[str, ...]] = {
    _GENERATION + "GenerateRequest": ("priority",),
    _GENERATION + "Output": ("stream_interval_tokens",),
}
# Readable lists that have a little-endian bytes form: type code of its elements.
_PACKED: Mapping[str, str] = {"maas.common.v1.TokenIds": "I", "maas.common.v1.Series": "f"}
_ROUTING = ("model", "version")


def canonical(request: Message) -> bytes:
    """`request` without routing, defaults filled, irrelevant fields removed; the same bytes for the same meaning.

    A Tensor keeps the form (bytes or list) it came in: another form costs a miss, never a wrong hit.
    """
    rewrite = _rewriter(request.DESCRIPTOR)
    if rewrite is None:
        return _unrouted(request)
    copy = type(request)()
    copy.CopyFrom(request)
    rewrite(copy)
    return _unrouted(copy)


def _unrouted(request: Any) -> bytes:
    """Without model and version, which come back: a picture is not copied to be told from others."""
    named = [getattr(request, name) for name in _ROUTING]
    for name in _ROUTING:
        request.ClearField(name)
    try:
        return bytes(request.SerializeToString(deterministic=True))
    finally:
        for name, value in zip(_ROUTING, named, strict=True):
            setattr(request, name, value)


@cache
def _rewriter(descriptor: Descriptor) -> Rewrite | None:
    """What makes a message of one type canonical, in place; None when nothing inside it has two spellings."""
    name = descriptor.full_name
    steps = [_dropper(_IRRELEVANT[name])] if name in _IRRELEVANT else []
    steps += [_presenter(_PRESENT[name])] if name in _PRESENT else []
    steps += [_filler(descriptor, _DEFAULTS[name])] if name in _DEFAULTS else []
    steps += [_packer(_PACKED[name])] if name in _PACKED else []
    steps += [step for step in map(_descent, descriptor.fields) if step is not None]
    if not steps:
        return None

    def rewrite(message: Any) -> None:
        for step in steps:
            step(message)

    return rewrite


def _dropper(names: tuple[str, ...]) -> Rewrite:
    def drop(message: Any) -> None:
        for name in names:
            message.ClearField(name)

    return drop


def _presenter(names: tuple[str, ...]) -> Rewrite:
    def present(message: Any) -> None:
        for name in names:
            getattr(message, name).SetInParent()

    return present


def _filler(descriptor: Descriptor, defaults: Mapping[str, object]) -> Rewrite:
    tracked = {name: descriptor.fields_by_name[name].has_presence for name in defaults}

    def fill(message: Any) -> None:
        for name, value in defaults.items():
            if not (message.HasField(name) if tracked[name] else getattr(message, name)):
                setattr(message, name, value)

    return fill


def _packer(code: str) -> Rewrite:
    def pack(message: Any) -> None:
        # Both forms at once is for the service to refuse.
        if message.values and not message.packed:
            values = array(code, message.values)
            if sys.byteorder == "big":
                values.byteswap()
            message.packed = values.tobytes()
            message.ClearField("values")

    return pack


def _descent(field: FieldDescriptor) -> Rewrite | None:
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return None
    inner, name = _rewriter(field.message_type), field.name
    if inner is None:
        return None
    if field.is_repeated:

        def each(message: Any) -> None:
            for item in getattr(message, name):
                inner(item)

        return each

    def one(message: Any) -> None:
        if message.HasField(name):
            inner(getattr(message, name))

    return one
