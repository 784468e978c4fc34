"""maas.generation.v1 requests → jobs. Knows no gRPC and no engine thread; `answers.py` is the other direction."""

from dataclasses import dataclass
from hashlib import blake2b
from secrets import randbits
from typing import Any

import numpy as np
from google.protobuf.message import Message as ProtoMessage

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation import capabilities, counts
from services.generation.engine.bad_words import BadWords
from services.generation.engine.constraint import Grammar
from services.generation.engine.request import Request, SamplingParams, Stopping
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.runtime.context import RequestContext
from services.runtime.errors import InvalidInput
from services.runtime.text.chat import Message
from services.runtime.text.tokenizer import Tokenizer, require_digest, require_ids
from services.runtime.token_ids import token_ids

GenerateRequest = service_pb.GenerateRequest | service_pb.GenerateStreamRequest

DEFAULT_MAX_TOKENS = 256
VOCABULARY_SEARCH = 1000  # looking for a bad word in the vocabulary costs as much as so many characters
# Sampling fields that the engine knows by the same name and unit.
PLAIN = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)


def size(request: GenerateRequest | service_pb.ScoreRequest) -> int:
    """Work before the engine, in characters of text: what decides whether a thread does it."""
    searches = 0 if isinstance(request, service_pb.ScoreRequest) else len(request.sampling.bad_words)
    return request.ByteSize() + searches * VOCABULARY_SEARCH


def job(
    request: GenerateRequest, model: GenerationModel, call: RequestContext, grammar: Grammar | None = None
) -> Job:
    """The whole request, checked. InvalidInput names the field, Unimplemented what is not served."""
    capabilities.require(request, model.worker.capabilities)
    prompt = _prompt(request, model)
    n, draws = counts.counts(request.sampling, streams=isinstance(request, service_pb.GenerateStreamRequest))
    output = request.output
    skip = not output.HasField("skip_special_tokens") or output.skip_special_tokens
    return Job(
        request=Request(
            prompt=tuple(prompt),
            sampling=_sampling(request.sampling, model.vocab_size),
            stopping=_stopping(request.stopping, model, model.context - len(prompt)),
            seed=_seed(request.sampling),
            logprobs=_given(output).get("logprobs"),
            prompt_logprobs=_given(output).get("prompt_logprobs"),
            priority=call.rank(request.priority),
            tenant=call.tenant,
            deadline=call.deadline,
            salt=_salt(call.tenant, request.cache_salt),
            adapter=model.adapter,
        ),
        n=n,
        draws=draws,
        stop=tuple(request.stopping.stop),
        skip_special_tokens=skip,
        prefix=model.tokenizer.decode(prompt, skip) if output.echo else "",
        interval=output.stream_interval_tokens or 1,
        bad_words=BadWords(
            [text.encode() for text in request.sampling.bad_words], model.spoken if skip else model.shown
        ),
        grammar=grammar,
    )


@dataclass(frozen=True, slots=True)
class Scoring:
    """A job that only computes the prompt, whose tokens count in the sums from position `first` on."""

    job: Job
    first: int


def scoring(request: service_pb.ScoreRequest, model: GenerationModel, call: RequestContext) -> Scoring:
    """What a ScoreRequest asks for. InvalidInput if fewer than two tokens, or more than the context."""
    field = request.WhichOneof("input") or "input"
    ids = _text_or_ids(request, model.tokenizer, model.vocab_size, field)
    first = max(len(ids), 1) if request.HasField("continuation") else 1
    ids += model.tokenizer.encode_ids(request.continuation, add_special_tokens=False)
    if not first < len(ids) <= model.context:
        raise InvalidInput(
            field,
            f"gives {len(ids)} tokens, {len(ids) - first} to score; at least one token to "
            f"score after another is needed, and at most {model.context} in all",
        )
    wanted = Request(
        prompt=tuple(ids),
        stopping=Stopping(max_tokens=0),
        prompt_logprobs=request.top_logprobs,
        deadline=call.deadline,
        tenant=call.tenant,
        salt=_salt(call.tenant, ""),
    )
    return Scoring(Job(wanted), first)


def _prompt(request: GenerateRequest, model: GenerationModel) -> list[int]:
    field = request.WhichOneof("prompt")
    if field is None:
        raise InvalidInput("prompt", "one of text, token_ids, chat must be set")
    if field == "chat":
        turns = [Message(message.role, message.content) for message in request.chat.messages]
        ids = model.require_template().encode(turns)
    else:
        ids = _text_or_ids(request, model.tokenizer, model.vocab_size, field)
    if request.HasField("truncate_prompt_tokens"):
        ids = ids[-request.truncate_prompt_tokens :]
    return _fitting(ids, model.context, field)


def _text_or_ids(
    request: GenerateRequest | service_pb.ScoreRequest, tokenizer: Tokenizer, vocab_size: int, field: str
) -> list[int]:
    if field == "text":
        return tokenizer.encode_ids(request.text)
    require_digest(request.token_ids.tokenizer_digest, tokenizer, field)
    ids = token_ids(request.token_ids.values, request.token_ids.packed, field)
    require_ids(ids, vocab_size, f"{field}.values")
    return list(ids)


def _fitting(ids: list[int], context: int, field: str) -> list[int]:
    if not ids:
        raise InvalidInput(field, "gives no tokens; at least one is needed")
    if len(ids) >= context:
        raise InvalidInput(
            field,
            f"gives {len(ids)} tokens, which fill the context of {context}; shorten it or set "
            f"truncate_prompt_tokens to at most {context - 1}",
            reason="CONTEXT_FULL",
        )
    return ids


def _sampling(sampling: pb.Sampling, vocab_size: int) -> SamplingParams:
    require_ids(list(sampling.allowed_token_ids), vocab_size, "sampling.allowed_token_ids")
    _check_biased(sampling, vocab_size)
    given = _given(sampling)
    return SamplingParams(
        **{name: given[name] for name in PLAIN if name in given},
        **counts.search(sampling),
        logit_bias=dict(sampling.logit_bias),
        allowed_token_ids=np.unique(np.array(sampling.allowed_token_ids, np.int64)),
    )


def _check_biased(sampling: pb.Sampling, vocab_size: int) -> None:
    for token in sampling.logit_bias:
        if token >= vocab_size:
            raise InvalidInput(
                f"sampling.logit_bias[{token}]", f"is outside the vocabulary; ids go from 0 to {vocab_size - 1}"
            )


def _stopping(stopping: pb.Stopping, model: GenerationModel, room: int) -> Stopping:
    require_ids(list(stopping.stop_token_ids), model.vocab_size, "stopping.stop_token_ids")
    max_tokens = min(stopping.max_tokens or DEFAULT_MAX_TOKENS, room)
    if stopping.min_tokens > max_tokens:
        raise InvalidInput(
            "stopping.min_tokens", f"is {stopping.min_tokens}; at most {max_tokens} tokens will be generated"
        )
    return Stopping(
        max_tokens=max_tokens,
        min_tokens=stopping.min_tokens,
        eos_token_ids=frozenset() if stopping.ignore_eos else model.eos_token_ids,
        stop_token_ids=frozenset(stopping.stop_token_ids),
        include_stop=stopping.include_stop,
    )


def _seed(sampling: pb.Sampling) -> int:
    """The caller's; else 0 where nothing is drawn, so that greedy answers stay equal; else a fresh one."""
    if sampling.HasField("seed"):
        return sampling.seed
    return randbits(64) if sampling.temperature > 0 else 0


def _salt(tenant: str, salt: str) -> bytes:
    """Tenant and salt together, so that no choice of salt reaches another tenant's blocks."""
    digest = blake2b(digest_size=16)
    for part in (tenant.encode(), salt.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _given(message: ProtoMessage) -> dict[str, Any]:
    """The fields that are set, by name: those with presence even where they equal the type's zero."""
    return {descriptor.name: value for descriptor, value in message.ListFields()}
