"""What is asked of generation, and how its answers are read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from maas.generation.v1 import generation_pb2
from maas.generation.v1 import generation_service_pb2 as pb
from maas_client import arrays
from maas_client.arrays import Ids
from maas_client.ask.words import Message, turns
from maas_client.call import Ask, CallInfo, Which, how, which
from maas_client.results import Completion, Delta, Generated, Position, Scored, TokenLogprob, Usage

SERVICE = "maas.generation.v1.GenerationService"
# A text, token ids, or a conversation.
Prompt = str | Ids | Sequence[Message]
# The request's messages of options, and the names in each.
GROUPS = {
    "sampling": generation_pb2.Sampling.DESCRIPTOR.fields_by_name,
    "stopping": generation_pb2.Stopping.DESCRIPTOR.fields_by_name,
    "constraint": generation_pb2.Constraint.DESCRIPTOR.fields_by_name,
    "output": generation_pb2.Output.DESCRIPTOR.fields_by_name,
}
OWN = ("priority", "cache_salt", "truncate_prompt_tokens", "adapter")
STOP, TOKEN = "text", "token_id"


class Writing(Which, total=False):
    """How text is generated, by the contract's names; all unset is greedy, 256 tokens at most.

    `choice` are the texts of which the output is one. Of `json_schema`, `json_object`, `regex`, `choice` and
    `grammar` one at most.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    allowed_token_ids: Sequence[int]
    bad_words: Sequence[str]
    seed: int
    n: int
    best_of: int
    num_beams: int
    length_penalty: float
    max_tokens: int
    min_tokens: int
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    include_stop: bool
    json_schema: str
    json_object: bool
    regex: str
    choice: Sequence[str]
    grammar: str
    logprobs: int
    prompt_logprobs: int
    echo: bool
    stream_interval_tokens: int
    skip_special_tokens: bool
    priority: int
    cache_salt: str
    truncate_prompt_tokens: int
    adapter: str


def generate(prompt: Prompt, **options: Unpack[Writing]) -> Ask[Generated]:
    """All completions at once."""
    request = pb.GenerateRequest(**fields(prompt, options))
    return Ask(f"{SERVICE}/Generate", request, pb.GenerateResponse, generated, how(options))


def generate_stream(prompt: Prompt, **options: Unpack[Writing]) -> Ask[Delta]:
    """The same, told as it is written: of many replies each is read into a Delta."""
    request = pb.GenerateStreamRequest(**fields(prompt, options))
    return Ask(f"{SERVICE}/GenerateStream", request, pb.GenerateStreamResponse, delta, how(options))


def score(
    text: str | Ids, *, continuation: str | None = None, top_logprobs: int | None = None, **options: Unpack[Which]
) -> Ask[Scored]:
    """Log probability of a text, or of a `continuation` after it."""
    asked: dict[str, Any] = {"text": text} if isinstance(text, str) else {"token_ids": arrays.token_ids(text)}
    request = pb.ScoreRequest(
        **which(options),
        **asked,
        continuation=continuation,
        top_logprobs=top_logprobs,
    )
    return Ask(f"{SERVICE}/Score", request, pb.ScoreResponse, scored, how(options))


def fields(prompt: Prompt, options: Writing) -> dict[str, Any]:
    """The request's fields. TypeError for a name that is no option."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(given.keys() - Writing.__annotations__.keys())
    if unknown:
        raise TypeError(f"no such option: {', '.join(unknown)}")
    if "choice" in given:
        given["choice"] = {"values": given["choice"]}
    groups = {
        group: found
        for group, names in GROUPS.items()
        if (found := {name: value for name, value in given.items() if name in names})
    }
    own = {name: given[name] for name in OWN if name in given}
    return {**which(options), **_prompt(prompt), **groups, **own}


def _prompt(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"text": prompt}
    if isinstance(prompt, np.ndarray):
        return {"token_ids": arrays.token_ids(prompt)}
    return {"chat": {"messages": turns(prompt)}}


def generated(reply: Any, info: CallInfo) -> Generated:
    completions = tuple(_completion(one) for one in reply.completions)
    return Generated(completions, usage(reply.usage), reply.seed, info, positions(reply.prompt_logprobs))


def delta(reply: Any, info: CallInfo | None = None) -> Delta:
    return Delta(
        reply.index,
        reply.text_delta,
        tuple(reply.token_ids),
        _reason(reply),
        _stop(reply),
        positions(reply.logprobs),
        usage(reply.usage) if reply.HasField("usage") else None,
    )


def scored(reply: Any, info: CallInfo) -> Scored:
    return Scored(reply.total_logprob, reply.perplexity, reply.scored_tokens, positions(reply.tokens), info)


def usage(message: Any) -> Usage:
    return Usage(message.prompt_tokens, message.completion_tokens, message.cached_prompt_tokens)


def positions(messages: Iterable[Any]) -> tuple[Position, ...]:
    return tuple(Position(_logprob(one.chosen), tuple(map(_logprob, one.top))) for one in messages)


def _logprob(message: Any) -> TokenLogprob:
    return TokenLogprob(message.token_id, message.token, message.logprob, message.rank)


def _completion(message: Any) -> Completion:
    return Completion(
        message.index,
        message.text,
        tuple(message.token_ids),
        _reason(message),
        _stop(message),
        positions(message.logprobs),
        message.cumulative_logprob,
    )


def _reason(message: Any) -> str:
    """STOP, LENGTH …; empty while there is none."""
    name = generation_pb2.FinishReason.Name(message.finish_reason).removeprefix("FINISH_REASON_")
    return "" if name == "UNSPECIFIED" else name


def _stop(message: Any) -> str | int | None:
    """The text or the token id that ended it."""
    kind = message.stop_match.WhichOneof("kind")
    found: str | int | None = getattr(message.stop_match, kind) if kind else None
    return found
