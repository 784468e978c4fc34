"""One row of logits, changed as its request asks, in this order: penalties, bias, allowed ids, bad words, held
end tokens, constraint; then, for a draw: temperature, top_k, top_p, min_p, typical_p. Knows no batch."""

import numpy as np
import torch
from torch import Tensor

from services.generation.engine.request import SamplingParams, Sequence

HEAD = 1024


def edit(logits: Tensor, sequence: Sequence) -> Tensor:
    """logits: [vocab] float32 → a changed copy; forbidden tokens become -inf."""
    params = sequence.request.sampling
    logits = logits.clone()
    _penalise(logits, sequence, params)
    if params.logit_bias:
        logits[torch.tensor(list(params.logit_bias))] += torch.tensor(list(params.logit_bias.values()))
    _forbid(logits, sequence, params)
    return logits


def _penalise(logits: Tensor, sequence: Sequence, params: SamplingParams) -> None:
    """Repetition (Keskar et al. 2019) counts prompt and output; frequency and presence the output alone."""
    if params.repetition_penalty != 1.0:
        seen = torch.tensor(sorted(set(sequence.tokens)))
        scores = logits[seen]
        factor = params.repetition_penalty
        logits[seen] = torch.where(scores > 0, scores / factor, scores * factor)
    if sequence.output_counts and (params.frequency_penalty or params.presence_penalty):
        counts = torch.tensor(list(sequence.output_counts.values()), dtype=logits.dtype)
        seen = torch.tensor(list(sequence.output_counts))
        logits[seen] -= counts * params.frequency_penalty + params.presence_penalty


def _forbid(logits: Tensor, sequence: Sequence, params: SamplingParams) -> None:
    if len(params.allowed_token_ids):
        allowed = torch.from_numpy(np.asarray(params.allowed_token_ids, np.int64))
        kept = torch.full_like(logits, -torch.inf)
        kept[allowed] = logits[allowed]
        logits.copy_(kept)
    if len(sequence.bad_words.always):
        logits[torch.from_numpy(sequence.bad_words.always)] = -torch.inf
    forbidden = sequence.bad_words.after(sequence.opened)
    if sequence.held_open:
        forbidden += sequence.request.stopping.end_token_ids
    if forbidden:
        logits[torch.tensor(forbidden, dtype=torch.int64)] = -torch.inf
    if sequence.constraint:
        logits += torch.from_numpy(sequence.constraint.mask())


def candidates(logits: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """logits: [vocab] → (token ids, probabilities), both [kept], float64.

    With any cut the tokens come likeliest first, else in vocabulary order.
    """
    probabilities = (logits.double() / params.temperature).softmax(-1)
    if not params.truncates:
        return torch.arange(len(probabilities)), probabilities
    probabilities, ids = _likeliest(probabilities, params)
    for cut in (_top_p, _min_p, _typical):
        kept = cut(probabilities, params)
        ids, probabilities = ids[kept], probabilities[kept] / probabilities[kept].sum()
    return ids, probabilities


def _likeliest(probabilities: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Probabilities and ids, likeliest first, as many as top_k leaves or the next cuts can reach.

    Sorting a whole vocabulary costs milliseconds a token; nearly always the cuts end in the first HEAD.
    """
    if params.top_k:
        values, ids = probabilities.topk(min(params.top_k, len(probabilities)))
        return values / values.sum(), ids
    values, ids = probabilities.topk(min(HEAD, len(probabilities)))
    if values.cumsum(-1)[-1] >= params.top_p or values[-1] < params.min_p * values[0]:
        return values, ids
    return probabilities.sort(descending=True, stable=True)


def _top_p(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """The smallest leading set whose mass reaches top_p (Holtzman et al. 2020)."""
    before = probabilities.cumsum(-1) - probabilities
    return before < params.top_p


def _min_p(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024)."""
    return probabilities >= params.min_p * probabilities[0]


def _typical(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """The smallest set of mass typical_p whose surprise is nearest the entropy (Meister et al. 2023)."""
    if params.typical_p >= 1.0:
        return torch.ones_like(probabilities, dtype=torch.bool)
    surprise = -probabilities.clamp_min(torch.finfo(torch.float64).tiny).log()
    distance = (surprise - (probabilities * surprise).sum()).abs()
    order = distance.argsort(stable=True)
    before = probabilities[order].cumsum(-1) - probabilities[order]
    kept = torch.zeros_like(probabilities, dtype=torch.bool)
    kept[order[before < params.typical_p]] = True
    return kept
