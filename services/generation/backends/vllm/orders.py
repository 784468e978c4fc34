"""A sequence → vLLM's words for it; what it cannot do is refused here. Knows no vLLM."""

from hashlib import blake2b
from typing import Any

import numpy as np

from services.generation.backends.vllm.client import Order
from services.generation.engine.request import Request, SamplingParams, Sequence
from services.runtime.errors import InvalidInput

COOLEST, HOTTEST = 0.01, 2.0  # what it takes beside 0; it would raise a lower one and refuse a higher one


def check(request: Request, context: int) -> None:
    """Raises InvalidInput for values that other backends take, naming field and limit."""
    temperature = request.sampling.temperature
    if temperature and not COOLEST <= temperature <= HOTTEST:
        raise InvalidInput(
            "sampling.temperature", f"is {temperature:g}; 0, or {COOLEST:g} to {HOTTEST:g}, is served here"
        )
    if len(request.prompt) >= context:
        raise InvalidInput("text", f"gives {len(request.prompt)} tokens; at most {context - 1} are scored here")
    allowed = set(map(int, request.sampling.allowed_token_ids))
    if request.stopping.min_tokens and allowed and allowed <= request.stopping.end_token_ids:
        raise InvalidInput(
            "sampling", "leaves no token to choose before min_tokens: allowed_token_ids has end tokens only"
        )


def order(sequence: Sequence, vocab_size: int) -> Order:
    """The sequence alone: those of one request share its prompt through the prefix cache."""
    request = sequence.request
    return Order(
        prompt=request.prompt,
        sampling=_stopping(request)
        | _logprobs(sequence)
        | _sampling(request.sampling, vocab_size)
        | _seed(sequence),
        salt=request.salt.hex(),
        priority=request.priority,
    )


def _stopping(request: Request) -> dict[str, Any]:
    """End tokens are named one by one, so that its own rules for them never apply."""
    stopping = request.stopping
    return {
        "max_tokens": max(stopping.max_tokens, 1),
        "min_tokens": stopping.min_tokens,
        "ignore_eos": True,
        "stop_token_ids": sorted(stopping.end_token_ids),
    }


def _logprobs(sequence: Sequence) -> dict[str, Any]:
    """The chosen token's is always wanted, for the sum; the prompt's are told to the first sequence."""
    request = sequence.request
    scored = request.prompt_logprobs if sequence.is_scorer else None
    return {"logprobs": request.logprobs or 0, "prompt_logprobs": scored}


def _sampling(asked: SamplingParams, vocab_size: int) -> dict[str, Any]:
    return {
        "temperature": asked.temperature,
        "top_k": min(asked.top_k, vocab_size),
        "top_p": asked.top_p,
        "min_p": asked.min_p,
        "repetition_penalty": asked.repetition_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "presence_penalty": asked.presence_penalty,
        "logit_bias": dict(asked.logit_bias) or None,
        "allowed_token_ids": [int(token) for token in asked.allowed_token_ids] or None,
    }


def _seed(sequence: Sequence) -> dict[str, Any]:
    """A seed of its own for each sequence of a request; none where nothing is drawn."""
    if sequence.request.sampling.greedy:
        return {"seed": None}
    key = np.array([sequence.request.seed, sequence.index], "<u8").tobytes()
    return {"seed": int.from_bytes(blake2b(key, digest_size=8).digest(), "little") >> 1}
