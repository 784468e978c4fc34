"""Attention, dense for training and over KV blocks for serving. Knows no layers, weights or schedules.

Block attention works in pieces of fixed shape (`CHUNK` keys, query rows in multiples of `ROW_MULTIPLE`) that are
added up in order, so a query's bits depend neither on its batch mates nor on how long their contexts are:
pieces that are masked out add exact zeros.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64  # keys a piece; KV block sizes divide it
ROW_MULTIPLE = 4  # matrix products change their summation order below this many rows

# (layer, query [tokens, heads, d], key, value [tokens, kv heads, d]) → [tokens, heads · d]
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def round_up(count: int, multiple: int) -> int:
    """The least multiple of `multiple` that is ≥ `count`."""
    return -(-count // multiple) * multiple


class DenseAttention:
    """Causal attention of `batch` equally long rows without a cache; differentiable."""

    def __init__(self, batch: int, window: int | None = None) -> None:
        self.batch = batch
        self.window = window

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.unflatten(0, (self.batch, -1)).transpose(1, 2) for x in (query, key, value))
        mask = None if self.window is None else self._band(q.shape[-2], q.device)
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
        return out.transpose(1, 2).flatten(0, 1).flatten(1)

    def _band(self, length: int, device: torch.device) -> Tensor:
        assert self.window is not None
        ones = torch.ones(length, length, dtype=torch.bool, device=device)
        return ones.tril() & ones.triu(1 - self.window)


def hidden_keys(positions: Tensor, length: int, group: int, window: int | None) -> Tensor:
    """Which keys each query row must not see: bool [batch, rows, length].

    positions: [batch, queries], the place of each query in its own context. Rows are queries × group, padded
    to ROW_MULTIPLE with rows at position 0.
    """
    rows = positions.repeat_interleave(group, dim=1)
    rows = F.pad(rows, (0, -rows.shape[1] % ROW_MULTIPLE)).unsqueeze(-1)
    keys = torch.arange(length, device=positions.device)
    hidden = keys > rows
    return hidden if window is None else hidden | (keys <= rows - window)


def block_attention(query: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v over gathered KV blocks.

    query: [batch, queries, heads, d]; keys, values: [batch · kv heads, length, d] with length a multiple of
    CHUNK; hidden: from `hidden_keys`. Returns [batch, queries, heads, d].
    """
    batch, queries, heads, width = query.shape
    rows = _grouped(query, keys.shape[0] // batch, hidden.shape[1])
    scores = torch.bmm(rows * width**-0.5, keys.transpose(1, 2)).unflatten(0, (batch, -1))
    scores = scores.masked_fill_(hidden.unsqueeze(1), -torch.inf).flatten(0, 1)
    weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    out = _weighted_sum(weights, values)[:, : queries * heads * batch // keys.shape[0]]
    return (
        out.reshape(batch, -1, queries, heads * batch // keys.shape[0], width).transpose(1, 2).flatten(2, 3)
    )


def _grouped(query: Tensor, kv_heads: int, rows: int) -> Tensor:
    """[batch, queries, heads, d] → [batch · kv heads, rows, d]: queries that share a KV head, zero-padded."""
    batch, queries, heads, width = query.shape
    grouped = query.view(batch, queries, kv_heads, -1, width).transpose(1, 2)
    grouped = grouped.reshape(batch * kv_heads, -1, width)
    return F.pad(grouped, (0, 0, 0, rows - grouped.shape[1]))


def _weighted_sum(weights: Tensor, values: Tensor) -> Tensor:
    """Σ weights · values / Σ weights, chunk after chunk: trailing zero chunks change no bit."""
    sums = weights.unflatten(-1, (-1, CHUNK)).sum(-1).cumsum(-1)[..., -1:]
    total = weights.new_zeros(*weights.shape[:2], values.shape[-1])
    for part, value in zip(weights.split(CHUNK, -1), values.split(CHUNK, 1), strict=True):
        total.baddbmm_(part, value)
    return total.div_(sums)
