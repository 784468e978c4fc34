"""Logits → tokens and their log probabilities. Each row is chosen by itself: batch mates cannot matter."""

import math
from functools import partial

import torch
from torch import Tensor

from services.generation.engine.beams import Offer
from services.generation.engine.draws import uniform
from services.generation.engine.output import PositionLogprobs, TokenLogprob
from services.generation.engine.processors import candidates, edit
from services.generation.engine.request import NO_TOKEN_LEFT, Sequence
from services.generation.engine.row import Row
from services.runtime.errors import InvalidInput, PreconditionFailed


def choose(row: Row, sequence: Sequence) -> int:
    """The next token of `sequence`.

    InvalidInput if the request's changes leave no token, or a row whose numbers are not finite;
    PreconditionFailed if those of the model are not.
    """
    check(row)
    request = sequence.request
    if request.sampling.greedy and not sequence.reweighs and _allowed(row.best, sequence):
        return row.best
    logits = row.logits
    if sequence.edits_logits:
        logits = edit(logits, sequence)
        _check_edited(logits)
    if request.sampling.greedy:
        return int(logits.numpy().argmax())  # ten times as fast as torch's
    ids, probabilities = candidates(logits, request.sampling)
    draw = uniform(request.seed, sequence.index, sequence.output_length)
    return int(ids[_invert(probabilities.cumsum(-1), draw)])


def _allowed(token: int, sequence: Sequence) -> bool:
    return sequence.constraint is None or sequence.constraint.allows(token)


def offer(row: Row, sequence: Sequence, count: int) -> Offer:
    """The `count` likeliest next tokens of a beam, fewer where fewer are possible, after the request's changes.

    InvalidInput if those make numbers that are not finite; PreconditionFailed as above.
    """
    check(row)
    logits = edit(row.logits, sequence) if sequence.edits_logits else row.logits
    if float(logits.max()) == -math.inf:
        return Offer()
    _check_edited(logits)
    values, ids = logits.log_softmax(-1).topk(min(count, len(logits)))
    found = sorted((-value, token) for token, value in zip(ids.tolist(), values.tolist(), strict=True))
    tokens = [token for value, token in found if value < math.inf]
    wanted = sequence.request.logprobs
    return Offer(
        token_ids=tokens,
        scores=[-value for value, _ in found[: len(tokens)]],
        logprobs=(row.logits[tokens] - row.log_sum).tolist(),
        report=None if wanted is None else partial(report, row.log_probabilities(), alternatives=wanted),
    )


def check(row: Row) -> None:
    """PreconditionFailed unless the model's own numbers are finite."""
    if not math.isfinite(row.log_sum):
        raise PreconditionFailed(
            "the model's numbers are not finite here; its weights, or the adapter's, are too large or broken",
            reason="BAD_WEIGHTS",
        )


def _check_edited(logits: Tensor) -> None:
    top = float(logits.max())
    if math.isfinite(top):
        return
    if top == -math.inf:
        raise InvalidInput("sampling", NO_TOKEN_LEFT)
    raise InvalidInput(
        "sampling", "the penalties and logit_bias make logits that are not finite; bring them nearer to neutral"
    )


def _invert(cumulative: Tensor, draw: float) -> int:
    """The first index whose cumulative mass exceeds draw × total; never one without mass."""
    total = cumulative[-1]
    last = torch.searchsorted(cumulative, total)
    return int(torch.searchsorted(cumulative, total * draw, right=True).clamp_max(last))


def report(row: Tensor, token: int, alternatives: int) -> PositionLogprobs:
    """The chosen token and the likeliest `alternatives` from one row [vocab] of log probabilities."""
    values, ids = row.topk(min(alternatives, len(row)))
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    top = tuple(TokenLogprob(one, value, rank) for rank, (one, value) in enumerate(pairs, start=1))
    rank = int((row > row[token]).sum()) + 1
    return PositionLogprobs(TokenLogprob(token, float(row[token]), rank), top)
