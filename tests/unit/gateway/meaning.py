"""What decides an answer, said a second time: a plain walk over a request and tables of its own.

Written from the contracts' comments, not from `gateway/canonical.py`, which it judges.
"""

import struct
from array import array
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

GENERATION, TOKENIZATION, VISION = "maas.generation.v1.", "maas.tokenization.v1.", "maas.vision.v1."
SEQUENCE, COMMON = "maas.sequence.v1.", "maas.common.v1."

# Every field that can stand in a request whose answer is remembered. A new one is not in here: decide whether it
# can change an answer (nothing more to do), has a default (DEFAULTS, and canonical.py's), or cannot (IRRELEVANT).
DECIDED: Mapping[str, str] = {
    COMMON + "Series": "values features packed sample_rate_hz",
    COMMON + "SeriesBatch": "values",
    COMMON + "Tensor": "dtype shape data float_values double_values int_values uint_values",
    COMMON + "Texts": "values",
    COMMON + "TokenIds": "values packed tokenizer_digest",
    COMMON + "TokenIdsBatch": "sequences",
    GENERATION + "Chat": "messages",
    GENERATION + "Choice": "values",
    GENERATION + "Constraint": "json_schema json_object regex choice grammar",
    GENERATION
    + "GenerateRequest": "model version text token_ids chat sampling stopping constraint output priority "
    "cache_salt truncate_prompt_tokens adapter",
    GENERATION + "Message": "role content",
    GENERATION + "Output": "logprobs prompt_logprobs echo stream_interval_tokens skip_special_tokens",
    GENERATION + "Sampling": "temperature top_k top_p min_p typical_p repetition_penalty frequency_penalty "
    "presence_penalty logit_bias allowed_token_ids bad_words seed n best_of num_beams length_penalty",
    GENERATION + "ScoreRequest": "model version text token_ids continuation top_logprobs tokens",
    GENERATION + "Stopping": "max_tokens min_tokens stop stop_token_ids ignore_eos include_stop",
    SEQUENCE + "ClassifyRequest": "model version texts token_ids series top_k step_scores",
    SEQUENCE + "EmbedRequest": "model version texts token_ids series normalize readable truncate",
    SEQUENCE + "ExplainRequest": "model version text token_ids series target_index steps",
    SEQUENCE + "ForecastRequest": "model version series horizon_steps quantiles",
    SEQUENCE + "TransduceRequest": "model version texts",
    TOKENIZATION + "CountTokensRequest": "model version texts add_special_tokens",
    TOKENIZATION + "DetokenizeRequest": "model version sequences skip_special_tokens",
    TOKENIZATION + "GetTokenizerRequest": "model version",
    TOKENIZATION + "Include": "offsets tokens masks word_ids overflowing packed_ids",
    TOKENIZATION + "Message": "role content",
    TOKENIZATION + "Padding": "to length side pad_id",
    TOKENIZATION + "RenderChatRequest": "model version messages add_generation_prompt tokenize",
    TOKENIZATION + "TextPair": "first second",
    TOKENIZATION
    + "TokenizeRequest": "model version texts pairs add_special_tokens truncation padding offset_unit include",
    TOKENIZATION + "Truncation": "max_tokens side stride strategy",
    VISION + "ClassifyRequest": "model version images top_k",
    VISION + "EmbedRequest": "model version images normalize readable",
    VISION + "ExplainRequest": "model version image target_index method steps overlay",
    VISION + "Image": "encoded pixels",
}
# What unset means. Where a field may be unset and is not in here, unset is a meaning of its own.
DEFAULTS: Mapping[str, object] = {
    **dict.fromkeys(
        (f"{TOKENIZATION}{name}Request.add_special_tokens" for name in ("Tokenize", "CountTokens")), True
    ),
    TOKENIZATION + "TokenizeRequest.offset_unit": 1,
    TOKENIZATION + "DetokenizeRequest.skip_special_tokens": True,
    TOKENIZATION + "RenderChatRequest.add_generation_prompt": True,
    TOKENIZATION + "Truncation.side": 2,
    TOKENIZATION + "Truncation.strategy": 1,
    TOKENIZATION + "Padding.to": 1,
    TOKENIZATION + "Padding.side": 2,
    VISION + "ExplainRequest.steps": 50,
    SEQUENCE + "ExplainRequest.steps": 50,
    SEQUENCE + "EmbedRequest.normalize": True,
    COMMON + "Series.features": 1,
    GENERATION + "ScoreRequest.tokens": True,
    GENERATION + "ScoreRequest.top_logprobs": 0,
    GENERATION + "Stopping.max_tokens": 256,
    GENERATION + "Stopping.min_tokens": 0,
    GENERATION + "Stopping.ignore_eos": False,
    GENERATION + "Stopping.include_stop": False,
    GENERATION + "Output.echo": False,
    GENERATION + "Output.skip_special_tokens": True,
    **{
        f"{GENERATION}Sampling.{name}": value
        for name, value in (
            *(("temperature", 0.0), ("top_k", 0), ("top_p", 1.0), ("min_p", 0.0), ("typical_p", 1.0)),
            *(("repetition_penalty", 1.0), ("frequency_penalty", 0.0), ("presence_penalty", 0.0)),
            *(("n", 1), ("num_beams", 1), ("length_penalty", 1.0)),
        )
    },
}
# Messages that mean the same absent as empty.
EMPTY = frozenset(
    {
        TOKENIZATION + "TokenizeRequest.include",
        *(GENERATION + f"GenerateRequest.{name}" for name in ("sampling", "stopping", "output")),
    }
)
IRRELEVANT: Mapping[str, str] = {
    GENERATION + "GenerateRequest.priority": "says when, not what",
    GENERATION + "Output.stream_interval_tokens": "says in how many messages, not what",
    **{
        f"{request}.{name}": "the key has the digest of the version that they lead to"
        for request in DECIDED
        if request.endswith("Request")
        for name in ("model", "version")
    },
}
# Both forms of a list are its elements in little-endian bytes.
FORMS: Mapping[str, str] = {COMMON + "TokenIds": "I", COMMON + "Series": "f"}


def meaning(message: Any) -> tuple[Any, ...]:
    """Equal for requests whose answers must be equal. A Tensor's bytes and its typed lists are told apart, and so
    are unset and empty texts: that costs a computation and is never wrong."""
    name = message.DESCRIPTOR.full_name
    found = {field.name: _field(message, field) for field in message.DESCRIPTOR.fields if not _skipped(field)}
    if name in FORMS and message.values and not message.packed:
        found["packed"] = array(FORMS[name], message.values).tobytes()
        found["values"] = ()
    return (*sorted(found.items()), unknown(message))


def _skipped(field: FieldDescriptor) -> bool:
    return field.full_name in IRRELEVANT


def _field(message: Any, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return tuple(sorted((key, _plain(item)) for key, item in value.items()))
    if field.is_repeated:
        return tuple(meaning(item) if field.message_type else _plain(item) for item in value)
    unset = field.has_presence and not message.HasField(field.name)
    if field.message_type is not None:
        return None if unset and field.full_name not in EMPTY else meaning(value)
    default = DEFAULTS.get(field.full_name)
    if default is not None and (unset or (not field.has_presence and not value)):
        return _plain(default)
    return None if unset else _plain(value)


def _plain(value: Any) -> Any:
    """Floats by their bits: 0 and -0 are two, a NaN is itself."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def unknown(message: Any) -> tuple[Any, ...]:
    """Fields of a newer contract, in the order in which they came."""
    return tuple((field.field_number, field.wire_type, str(field.data)) for field in UnknownFieldSet(message))


def messages_of(descriptor: Descriptor, seen: dict[str, Descriptor] | None = None) -> dict[str, Descriptor]:
    """Every message that can stand in such a request, itself included, by its full name."""
    seen = {} if seen is None else seen
    if descriptor.full_name not in seen:
        seen[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                messages_of(field.message_type, seen)
    return seen
