"""Plain values → maas.tokenization.v1: replies. Knows no gRPC; `convert.py` is the other direction."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maas.tokenization.v1 import tokenization_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from services.runtime.batcher import Outcome
from services.runtime.replies import served_by, timing
from services.runtime.text.chat import ChatTemplate
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.incremental import IncrementalDecoder
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.convert import Conversation, sequences, skip_special_tokens, stream_ids
from services.tokenization.encode import ID_BYTES, Check, Order, bounded_ids, encode, ids
from services.tokenization.model import TokenizationModel
from services.tokenization.offsets import byte_positions
from services.tokenization.words import Words, packed

DECODED_AT_ONCE = 1 << 14  # ids; 20 ms

Place = Callable[[Encoded], Iterable[pb.Offset]]


def encodings(
    words: Words, order: Order, request: service_pb.TokenizeRequest, check: Check
) -> service_pb.TokenizeResponse:
    """A reply with the encodings of `order`, in the columns that `request.include` names."""
    reply, include = service_pb.TokenizeResponse(), request.include
    if order.only_ids:
        for row in bounded_ids(words, order, check):
            _put_ids(reply.encodings.add(), row, include.packed_ids)
        return reply
    bytewise = include.offsets and request.offset_unit == pb.OFFSET_UNIT_BYTE
    for text, encoded in zip(order.inputs, encode(words, order, check), strict=True):
        _fill(reply.encodings.add(), encoded, _byte_places(text) if bytewise else _places, include)
    return reply


def texts(
    tokenizer: Tokenizer, request: service_pb.DetokenizeRequest, check: Check
) -> service_pb.DetokenizeResponse:
    """A reply with each sequence decoded, once all their ids are checked."""
    reply, skip = service_pb.DetokenizeResponse(), skip_special_tokens(request)
    for sequence in sequences(request, tokenizer):
        check()
        reply.texts.append(_decoded(tokenizer, sequence, skip, check))
    return reply


def _decoded(tokenizer: Tokenizer, ids: Sequence[int], skip: bool, check: Check) -> str:
    """`tokenizer.decode`; a long sequence in parts, as the libraries keep the GIL until all is decoded."""
    if len(ids) <= DECODED_AT_ONCE:
        return tokenizer.decode(ids, skip)
    decoder, parts = IncrementalDecoder(tokenizer, skip), []
    for start in range(0, len(ids), DECODED_AT_ONCE):
        check()
        parts.append(decoder.push_all(ids[start : start + DECODED_AT_ONCE]))
    return "".join(parts) + decoder.flush()


def pushed(
    tokenizer: Tokenizer, decoder: IncrementalDecoder, message: service_pb.DetokenizeStreamRequest, check: Check
) -> str:
    """The text that the ids of one stream message make certain."""
    taken = stream_ids(message, tokenizer)
    check()
    return decoder.push_all(taken)


def counts(words: Words, order: Order, check: Check) -> list[int]:
    """Tokens of each input."""
    return [len(row) // ID_BYTES for row in ids(words, order, check)]


def chat(template: ChatTemplate, wanted: Conversation, check: Check) -> tuple[str, list[int]]:
    """The rendered prompt, and its ids if they are wanted."""
    text = template.render(wanted.messages, wanted.add_generation_prompt, "messages")
    check()
    if not wanted.tokenize:
        return text, []
    return text, template.encode(wanted.messages, wanted.add_generation_prompt, "messages")


def tokenized(model: TokenizationModel, done: Outcome[service_pb.TokenizeResponse]) -> service_pb.TokenizeResponse:
    """The reply of Tokenize, completed in place: a copy would hold up the event loop."""
    done.value.MergeFrom(service_pb.TokenizeResponse(**_common(model, done)))
    return done.value


def detokenized(
    model: TokenizationModel, done: Outcome[service_pb.DetokenizeResponse]
) -> service_pb.DetokenizeResponse:
    """The reply of Detokenize, completed in place."""
    done.value.MergeFrom(service_pb.DetokenizeResponse(**_common(model, done)))
    return done.value


def counted(model: TokenizationModel, done: Outcome[list[int]]) -> service_pb.CountTokensResponse:
    """The reply of CountTokens."""
    return service_pb.CountTokensResponse(counts=done.value, total=sum(done.value), **_common(model, done))


def rendered(model: TokenizationModel, done: Outcome[tuple[str, list[int]]]) -> service_pb.RenderChatResponse:
    """The reply of RenderChat."""
    text, ids = done.value
    return service_pb.RenderChatResponse(text=text, ids=ids, **_common(model, done))


def tokenizer_info(model: TokenizationModel) -> service_pb.GetTokenizerResponse:
    """What GetTokenizer tells of a model."""
    tokenizer, spec = model.tokenizer, model.manifest.tokenizer
    return service_pb.GetTokenizerResponse(
        tokenizer_digest=tokenizer.digest,
        kind=tokenizer.kind,
        vocabulary_size=tokenizer.vocab_size,
        special_tokens=_special_tokens(tokenizer),
        chat_template=(spec.chat_template or "") if spec else "",
        max_length_tokens=(spec.max_length_tokens or 0) if spec else 0,
        served_by=served_by(model.manifest),
    )


def _common(model: TokenizationModel, done: Outcome[Any]) -> dict[str, Any]:
    return {
        "tokenizer_digest": model.tokenizer.digest,
        "served_by": served_by(model.manifest),
        "timing": timing(done),
    }


def _special_tokens(tokenizer: Tokenizer) -> list[service_pb.GetTokenizerResponse.SpecialToken]:
    """One entry a role (a token may have several), then the special tokens without one."""
    make = service_pb.GetTokenizerResponse.SpecialToken
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "unk": tokenizer.unk_id}
    roles = {role: token_id for role, token_id in ids.items() if token_id is not None}
    named = [make(token=tokenizer.token(i), id=i, role=role) for role, i in roles.items()]
    others = sorted(tokenizer.special_ids - set(roles.values()))
    return named + [make(token=tokenizer.token(i), id=i) for i in others]


def _fill(encoding: pb.Encoding, encoded: Encoded, place: Place, include: pb.Include) -> None:
    _put_ids(encoding, packed(encoded.ids), include.packed_ids)
    if include.tokens:
        encoding.tokens.extend(encoded.tokens)
    if include.offsets:
        encoding.offsets.extend(place(encoded))
    if include.masks:
        encoding.attention_mask.extend(encoded.attention_mask)
        encoding.type_ids.extend(encoded.type_ids)
        encoding.special_tokens_mask.extend(encoded.special_mask)
    if include.word_ids:
        encoding.word_ids.extend(-1 if word is None else word for word in encoded.word_ids)
    if include.overflowing:
        for window in encoded.overflowing:
            _fill(encoding.overflowing.add(), window, place, include)


def _put_ids(encoding: pb.Encoding, row: bytes, as_bytes: bool) -> None:
    if as_bytes:
        encoding.packed_ids = row
    else:
        encoding.ids.extend(memoryview(row).cast("I").tolist())


def _places(encoded: Encoded) -> Iterable[pb.Offset]:
    return (pb.Offset(start=start, end=end) for start, end in encoded.offsets)


def _byte_places(text: Input) -> Place:
    texts = (text,) if isinstance(text, str) else text
    positions = [byte_positions(each) for each in texts]

    def place(encoded: Encoded) -> Iterable[pb.Offset]:
        tables = [positions[sequence or 0] for sequence in encoded.sequence_ids]
        return (
            pb.Offset(start=table[start], end=table[end])
            for table, (start, end) in zip(tables, encoded.offsets, strict=True)
        )

    return place
