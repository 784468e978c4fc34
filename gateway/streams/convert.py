"""A generation as a stream of messages ↔ as one answer. Pure: knows no cache and no network."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb

Asked: TypeAlias = service_pb.GenerateStreamRequest
Told: TypeAlias = service_pb.GenerateStreamResponse


def unary(request: Asked) -> service_pb.GenerateRequest | None:
    """The request whose answer the stream's messages join to: but for `resume` its fields are the same, those that
    this build does not know too. None where there is none: to resume, and to choose among more than is told."""
    sampling = request.sampling
    chooses = sampling.num_beams <= 1 and sampling.best_of > (sampling.n or 1)
    if chooses or request.HasField("resume"):
        return None
    return service_pb.GenerateRequest.FromString(request.SerializeToString())


def joined(messages: Sequence[bytes]) -> service_pb.GenerateResponse | None:
    """The unary answer that all messages of a stream tell; None unless they tell it whole."""
    told = [Told.FromString(message) for message in messages]
    in_order = [message.sequence_number for message in told] == list(range(1, len(told) + 1))
    if not in_order or not told[-1].HasField("usage") or any(map(_strange, told)):
        return None
    reply = service_pb.GenerateResponse(seed=told[0].seed, usage=told[-1].usage, timing=told[-1].timing)
    reply.prompt_logprobs.extend(told[0].prompt_logprobs)
    reply.served_by.CopyFrom(told[0].served_by)
    for index in sorted({message.index for message in told}):
        reply.completions.append(_completion([message for message in told if message.index == index]))
    ended = all(one.finish_reason for one in reply.completions)
    return reply if ended else None


def _completion(told: Sequence[Told]) -> pb.Completion:
    last = told[-1]
    return pb.Completion(
        index=last.index,
        text="".join(message.text_delta for message in told),
        token_ids=[token for message in told for token in message.token_ids],
        finish_reason=last.finish_reason,
        stop_match=last.stop_match if last.HasField("stop_match") else None,
        logprobs=(position for message in told for position in message.logprobs),
        cumulative_logprob=last.cumulative_logprob,
    )


def replayed(answer: bytes, stream_id: str) -> list[bytes] | None:
    """The messages of an answer, a completion each: what is known need not come bit by bit, nor is it known which
    text is which token's. None for an answer that says more than they can."""
    reply = service_pb.GenerateResponse.FromString(answer)
    if not reply.completions or any(map(_strange, (reply, *reply.completions))):
        return None
    told = [_message(number, one) for number, one in enumerate(reply.completions, 1)]
    first, last = told[0], told[-1]
    first.stream_id, first.seed = stream_id, reply.seed
    first.prompt_logprobs.extend(reply.prompt_logprobs)
    first.served_by.CopyFrom(reply.served_by)
    last.usage.CopyFrom(reply.usage)
    last.timing.CopyFrom(reply.timing)
    return [message.SerializeToString() for message in told]


def _message(number: int, one: pb.Completion) -> Told:
    return Told(
        sequence_number=number,
        index=one.index,
        text_delta=one.text,
        token_ids=one.token_ids,
        logprobs=one.logprobs,
        finish_reason=one.finish_reason,
        stop_match=one.stop_match if one.HasField("stop_match") else None,
        cumulative_logprob=one.cumulative_logprob,
    )


def _strange(message: Message) -> bool:
    """Whether it has a field of its own that this build does not know, and so cannot carry over."""
    unknown: Any = UnknownFieldSet(message)
    return len(unknown) > 0
