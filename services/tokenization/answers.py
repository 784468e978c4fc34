"""Plain values → maas.tokenization.v1: replies. Knows no gRPC; `convert.py` is the other direction."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from maas.tokenization.v1 import tokenization_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from services.runtime.batcher import Outcome
from services.runtime.replies import served_by, timing
from services.runtime.text.chat import ChatTemplate
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.convert import Conversation
from services.tokenization.encode import Order, encode
from services.tokenization.model import TokenizationModel
from services.tokenization.offsets import byte_positions

Place = Callable[[Encoded], list[pb.Offset]]


def encodings(tokenizer: Tokenizer, order: Order, request: service_pb.TokenizeRequest) -> list[pb.Encoding]:
    """The encodings of `order` with the columns that `request.include` names."""
    include = request.include
    if _only_ids(request):
        rows = tokenizer.encode_ids_batch(order.inputs, add_special_tokens=order.add_special_tokens)
        return [_ids(row, include.packed_ids) for row in rows]
    bytewise = include.offsets and request.offset_unit == pb.OFFSET_UNIT_BYTE
    places = [_byte_places(each) if bytewise else _places for each in order.inputs]
    batch = encode(tokenizer, order)
    return [_encoding(each, place, include) for each, place in zip(batch, places, strict=True)]


def texts(tokenizer: Tokenizer, sequences: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
    """Each sequence decoded."""
    return [tokenizer.decode(ids, skip_special_tokens) for ids in sequences]


def counts(tokenizer: Tokenizer, order: Order) -> list[int]:
    """Tokens of each input."""
    rows = tokenizer.encode_ids_batch(order.inputs, add_special_tokens=order.add_special_tokens)
    return [len(row) for row in rows]


def chat(template: ChatTemplate, wanted: Conversation) -> tuple[str, list[int]]:
    """The rendered prompt, and its ids if they are wanted."""
    text = template.render(wanted.messages, wanted.add_generation_prompt, "messages")
    if not wanted.tokenize:
        return text, []
    return text, template.encode(wanted.messages, wanted.add_generation_prompt, "messages")


def tokenized(model: TokenizationModel, done: Outcome[list[pb.Encoding]]) -> service_pb.TokenizeResponse:
    """The reply of Tokenize."""
    return service_pb.TokenizeResponse(encodings=done.value, **_common(model, done))


def detokenized(model: TokenizationModel, done: Outcome[list[str]]) -> service_pb.DetokenizeResponse:
    """The reply of Detokenize."""
    return service_pb.DetokenizeResponse(texts=done.value, **_common(model, done))


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


def _only_ids(request: service_pb.TokenizeRequest) -> bool:
    """Whether ids are all that is wanted, which is much cheaper to make."""
    include = request.include
    columns = include.offsets or include.tokens or include.masks or include.word_ids
    return not (columns or request.HasField("truncation") or request.HasField("padding"))


def _special_tokens(tokenizer: Tokenizer) -> list[service_pb.GetTokenizerResponse.SpecialToken]:
    """One entry a role (a token may have several), then the special tokens without one."""
    make = service_pb.GetTokenizerResponse.SpecialToken
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id, "unk": tokenizer.unk_id}
    roles = {role: token_id for role, token_id in ids.items() if token_id is not None}
    named = [make(token=tokenizer.token(i), id=i, role=role) for role, i in roles.items()]
    others = sorted(tokenizer.special_ids - set(roles.values()))
    return named + [make(token=tokenizer.token(i), id=i) for i in others]


def _encoding(encoded: Encoded, place: Place, include: pb.Include) -> pb.Encoding:
    encoding = _ids(encoded.ids, include.packed_ids)
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
        encoding.overflowing.extend(_encoding(window, place, include) for window in encoded.overflowing)
    return encoding


def _ids(ids: Sequence[int], packed: bool) -> pb.Encoding:
    if packed:
        return pb.Encoding(packed_ids=struct.pack(f"<{len(ids)}I", *ids))
    return pb.Encoding(ids=ids)


def _places(encoded: Encoded) -> list[pb.Offset]:
    return [pb.Offset(start=start, end=end) for start, end in encoded.offsets]


def _byte_places(text: Input) -> Place:
    texts = (text,) if isinstance(text, str) else text
    positions = [byte_positions(each) for each in texts]

    def place(encoded: Encoded) -> list[pb.Offset]:
        tables = [positions[sequence or 0] for sequence in encoded.sequence_ids]
        return [
            pb.Offset(start=table[start], end=table[end])
            for table, (start, end) in zip(tables, encoded.offsets, strict=True)
        ]

    return place
