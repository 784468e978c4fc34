"""maas.tokenization.v1 ↔ plain values: requests. Knows no gRPC; `answers.py` is the other direction."""

from collections.abc import Sequence
from dataclasses import dataclass

from maas.common.v1 import tensor_pb2
from maas.tokenization.v1 import tokenization_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2 as service_pb
from services.runtime.errors import InvalidInput
from services.runtime.text.chat import Message
from services.runtime.text.encoded import Input
from services.runtime.text.padding import Padding, Target
from services.runtime.text.tokenizer import Tokenizer, require_digest, require_ids
from services.runtime.text.truncation import Side, Strategy, Truncation
from services.runtime.token_ids import token_ids
from services.tokenization.encode import MAX_IDS, Order

AnyRequest = (
    service_pb.TokenizeRequest
    | service_pb.DetokenizeRequest
    | service_pb.CountTokensRequest
    | service_pb.RenderChatRequest
    | service_pb.GetTokenizerRequest
    | service_pb.DetokenizeStreamRequest
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a RenderChatRequest asks for."""

    messages: Sequence[Message]
    add_generation_prompt: bool
    tokenize: bool

    @property
    def size(self) -> int:
        """Characters of all messages."""
        return sum(len(message.content) for message in self.messages)


def order(request: service_pb.TokenizeRequest, tokenizer: Tokenizer) -> Order:
    """What a TokenizeRequest asks for. Raises InvalidInput for texts and pairs together, or neither."""
    inputs, field = _inputs(request)
    return Order(
        inputs=inputs,
        field=field,
        add_special_tokens=_unless_set(request, "add_special_tokens"),
        truncation=_truncation(request) if request.HasField("truncation") else None,
        padding=_padding(request.padding, tokenizer) if request.HasField("padding") else None,
        columns=_wants_columns(request.include),
    )


def _wants_columns(include: pb.Include) -> bool:
    return include.offsets or include.tokens or include.masks or include.word_ids


def count_order(request: service_pb.CountTokensRequest) -> Order:
    """What a CountTokensRequest asks for."""
    return Order(list(request.texts), "texts", _unless_set(request, "add_special_tokens"))


def sequences(request: service_pb.DetokenizeRequest, tokenizer: Tokenizer) -> list[list[int]]:
    """Checked ids. Raises InvalidInput naming the id, PreconditionFailed for another tokenizer's ids."""
    total = sum(len(ids.values) + len(ids.packed) // 4 for ids in request.sequences)
    if total > MAX_IDS:
        raise InvalidInput("sequences", f"hold {total} ids; at most {MAX_IDS} allowed, split the request")
    return [_sequence(ids, tokenizer, f"sequences[{i}]") for i, ids in enumerate(request.sequences)]


def stream_ids(request: service_pb.DetokenizeStreamRequest, tokenizer: Tokenizer) -> list[int]:
    """Checked ids of one stream message; errors as of `sequences`."""
    require_digest(request.tokenizer_digest, tokenizer, "ids")
    ids = token_ids(request.ids, request.packed_ids, "packed_ids")
    require_ids(ids, tokenizer.vocab_size, "ids")
    return ids


def require_same_model(
    first: service_pb.DetokenizeStreamRequest, later: service_pb.DetokenizeStreamRequest
) -> None:
    """Raises InvalidInput if a later message of a stream names another model, version or option."""
    for field in ("model", "version"):
        if getattr(later, field) not in ("", getattr(first, field)):
            raise InvalidInput(field, "cannot change within a stream; leave it out after the first message")
    if later.HasField("skip_special_tokens") and skip_special_tokens(later) != skip_special_tokens(first):
        raise InvalidInput("skip_special_tokens", "cannot change within a stream; set it in the first message")


def conversation(request: service_pb.RenderChatRequest) -> Conversation:
    """The messages, and what is wanted of them."""
    messages = [Message(message.role, message.content) for message in request.messages]
    return Conversation(messages, _unless_set(request, "add_generation_prompt"), request.tokenize)


def skip_special_tokens(request: service_pb.DetokenizeRequest | service_pb.DetokenizeStreamRequest) -> bool:
    """True unless set."""
    return _unless_set(request, "skip_special_tokens")


def _unless_set(request: AnyRequest, field: str) -> bool:
    return bool(getattr(request, field)) if request.HasField(field) else True  # type: ignore[arg-type]


def _inputs(request: service_pb.TokenizeRequest) -> tuple[Sequence[Input], str]:
    if request.texts and request.pairs:
        raise InvalidInput("pairs", "texts and pairs are both given; give one of them")
    if request.pairs:
        return [(pair.first, pair.second) for pair in request.pairs], "pairs"
    if not request.texts:
        raise InvalidInput("texts", "is empty; give at least one text or pair")
    return list(request.texts), "texts"


def _sequence(ids: tensor_pb2.TokenIds, tokenizer: Tokenizer, field: str) -> list[int]:
    require_digest(ids.tokenizer_digest, tokenizer, field)
    values = token_ids(ids.values, ids.packed, field)
    require_ids(values, tokenizer.vocab_size, f"{field}.values")
    return values


def _truncation(request: service_pb.TokenizeRequest) -> Truncation:
    rule = request.truncation
    strategies: dict[pb.TruncationStrategy.ValueType, Strategy] = {
        pb.TRUNCATION_STRATEGY_ONLY_FIRST: "only_first",
        pb.TRUNCATION_STRATEGY_ONLY_SECOND: "only_second",
    }
    if rule.strategy == pb.TRUNCATION_STRATEGY_ONLY_SECOND and not request.pairs:
        raise InvalidInput("truncation.strategy", "ONLY_SECOND needs pairs")
    return Truncation(
        max_tokens=rule.max_tokens,
        side=_side(rule.side),
        stride=rule.stride,
        strategy=strategies.get(rule.strategy, "longest_first"),
        overflowing=request.include.overflowing,
    )


def _padding(rule: pb.Padding, tokenizer: Tokenizer) -> Padding:
    targets: dict[pb.PaddingTarget.ValueType, Target] = {
        pb.PADDING_TARGET_MAX: "max",
        pb.PADDING_TARGET_MULTIPLE: "multiple",
    }
    target = targets.get(rule.to, "longest")
    if target != "longest" and not rule.length:
        raise InvalidInput("padding.length", "must be at least 1 for MAX and MULTIPLE")
    pad_id = rule.pad_id if rule.HasField("pad_id") else tokenizer.pad_id
    if pad_id is None:
        raise InvalidInput("padding.pad_id", "this model has no pad token; set the id to pad with")
    if pad_id >= tokenizer.vocab_size:
        raise InvalidInput("padding.pad_id", f"{pad_id} is outside the vocabulary of {tokenizer.vocab_size}")
    return Padding(target, pad_id, tokenizer.token(pad_id), rule.length, _side(rule.side))


def _side(side: pb.Side.ValueType) -> Side:
    return "left" if side == pb.SIDE_LEFT else "right"
