"""What a reply tells of its cost: the model, the tokens, the time on the device. Knows no tenant."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor

from maas.gateway.v1 import gateway_pb2


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one reply, or one message of a stream; `whole` where it tells of all of the stream."""

    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    compute_s: float = 0.0
    whole: bool = False


Read = Callable[[Any], Cost]
_NO_TOKENS = (0, 0)


def of_results(reply: Any) -> Iterator[tuple[Cost, str]]:
    """Of each call of a fan-out or step of a pipeline that has a reply, and how the cache answered it."""
    results: list[gateway_pb2.CallResult] = reply.results if hasattr(reply, "results") else [reply.result]
    for result in results:
        kind = result.WhichOneof("reply")
        if kind not in (None, "status"):
            found: Any = getattr(result, kind)
            yield reader(found.DESCRIPTOR)(found), result.cache


@cache
def reader(kind: Descriptor) -> Read:
    """What reads messages of a kind."""
    fields = kind.fields_by_name
    for inner in ("response", "infer_response"):
        if inner in fields:
            return _within(inner, reader(fields[inner].message_type))
    if kind.name == "GenerateStreamResponse":
        return _of_generation
    if "model_name" in fields:
        return lambda reply: Cost(reply.model_name)
    tokens = _TOKENS.get(kind.name, lambda reply: _NO_TOKENS)
    served, timed = "served_by" in fields, "timing" in fields

    def read(reply: Any) -> Cost:
        model = reply.served_by.model if served else ""
        return Cost(model, *tokens(reply), reply.timing.compute_ms / 1000 if timed else 0.0)

    return read


def _within(name: str, read: Read) -> Read:
    return lambda reply: read(getattr(reply, name))


def _of_generation(reply: Any) -> Cost:
    """The model is told by the first message, the usage by the last."""
    if not reply.HasField("usage"):
        return Cost(reply.served_by.model, 0, len(reply.token_ids))
    return Cost(reply.served_by.model, *_usage(reply), reply.timing.compute_ms / 1000, whole=True)


def _usage(reply: Any) -> tuple[int, int]:
    return reply.usage.prompt_tokens, reply.usage.completion_tokens


def _ids(encoding: Any) -> int:
    """Those that did not fit too: somebody read them."""
    return (len(encoding.ids) or len(encoding.packed_ids) // 4) + sum(map(_ids, encoding.overflowing))


_TOKENS: Mapping[str, Callable[[Any], tuple[int, int]]] = {
    "TokenizeResponse": lambda reply: (sum(map(_ids, reply.encodings)), 0),
    "CountTokensResponse": lambda reply: (reply.total, 0),
    "RenderChatResponse": lambda reply: (len(reply.ids), 0),
    "GenerateResponse": _usage,
    # The first token has nothing before it to be scored by.
    "ScoreResponse": lambda reply: (reply.scored_tokens + 1, 0),
}
