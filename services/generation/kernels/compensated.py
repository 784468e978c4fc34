"""Weights → bytes whose errors cancel on what the layer is given (Frantar et al. 2022, GPTQ). Knows no net."""

import torch
from torch import Tensor

BLOCK = 64  # inputs rounded before the rest is told
DAMPING = 0.01  # of the mean of the inputs' squares


def rounded(weight: Tensor, scale: Tensor, given: Tensor) -> Tensor:
    """weight [out, in], scale [out, 1], given [tokens, in] → whole numbers of −127 to 127, float32 [out, in].

    Input after input is rounded to nearest and its error taken up by those not yet rounded, so that the products
    with `given` change least.
    """
    factor, left = _factor(given), (weight / scale).T.contiguous()
    for first in range(0, len(left), BLOCK):
        stop = min(first + BLOCK, len(left))
        errors = _round_block(left[first:stop], factor[first:stop, first:stop])
        left[stop:].addmm_(factor[first:stop, stop:].T, errors, alpha=-1)
    return left.T.contiguous()


def _round_block(left: Tensor, factor: Tensor) -> Tensor:
    """Rounds `left` [n, out] in place; its errors, each over its place on the diagonal."""
    errors = torch.empty_like(left)
    for place, row in enumerate(left):
        nearest = row.round().clamp_(-127, 127)
        torch.div(row - nearest, factor[place, place], out=errors[place])
        left[place + 1 :].addr_(factor[place, place + 1 :], errors[place], alpha=-1)
        row.copy_(nearest)
    return errors


def _factor(given: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of what the inputs have in common, float32 [in, in]."""
    gram = (given.T @ given).double()
    gram.diagonal().add_(DAMPING * gram.diagonal().mean() + torch.finfo().tiny)
    found: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(gram)), upper=True)
    return found.float()
