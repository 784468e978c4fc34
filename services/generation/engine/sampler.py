"""Logits → tokens and their log probabilities. Each row is chosen by itself: batch mates cannot matter."""

import math

import torch
from torch import Tensor

from services.generation.engine.draws import uniform
from services.generation.engine.output import PositionLogprobs, TokenLogprob
from services.generation.engine.processors import candidates, edit
from services.generation.engine.request import Sequence
from services.generation.engine.row import Row
from services.runtime.errors import InvalidInput


def choose(row: Row, sequence: Sequence) -> int:
    """The next token of `sequence`.

    InvalidInput if the request's changes leave no token, or a row whose numbers are not finite.
    """
    request, logits = sequence.request, row.logits
    if sequence.edits_logits:
        logits = edit(logits, sequence)
        _check_edited(logits)
    elif request.sampling.greedy:
        return row.best
    if request.sampling.greedy:
        return int(logits.argmax())
    ids, probabilities = candidates(logits, request.sampling)
    draw = uniform(request.seed, sequence.index, sequence.output_length)
    return int(ids[_invert(probabilities.cumsum(-1), draw)])


def _check_edited(logits: Tensor) -> None:
    top = float(logits.max())
    if math.isfinite(top):
        return
    if top == -math.inf:
        raise InvalidInput(
            "sampling",
            "no token is left to choose: allowed_token_ids, bad_words and min_tokens exclude each other",
        )
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
