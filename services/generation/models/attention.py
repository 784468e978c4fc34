"""Attention, dense for training and over KV blocks for serving. Knows no layers, weights or schedules.

Block attention works in pieces of fixed shape (`CHUNK` keys, query rows in multiples of `ROW_MULTIPLE`) that
are added up in order, so a query's bits depend neither on its batch mates nor on how long their contexts
are: pieces that are masked out add exact zeros. That is float32's; narrower numbers are added up in one product.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.models.config import CHUNK

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
        q, k, v = (x.view(self.batch, -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
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
    CHUNK; hidden: from `hidden_keys`. Returns [batch, queries, heads, d]. Exponentials and their sums are float32.
    """
    batch, queries, _, width = query.shape
    kv_heads, rows, length = keys.shape[0] // batch, hidden.shape[1], keys.shape[1]
    grouped = query.view(batch, queries, kv_heads, -1, width).transpose(1, 2).reshape(batch * kv_heads, -1, width)
    used = grouped.shape[1]
    grouped = F.pad(grouped * width**-0.5, (0, 0, 0, rows - used))
    scores = torch.bmm(grouped, keys.transpose(1, 2)).float().view(batch, kv_heads, rows, length)
    scores = scores.masked_fill_(hidden.unsqueeze(1), -torch.inf).view(-1, rows, length)
    out = _weighted_mean(scores.sub_(scores.amax(-1, keepdim=True)).exp_(), values)[:, :used]
    return out.reshape(batch, kv_heads, queries, -1, width).transpose(1, 2).reshape(query.shape)


def _weighted_mean(weights: Tensor, values: Tensor) -> Tensor:
    """Σ weights · values / Σ weights, chunk after chunk: trailing zero chunks change no bit."""
    sums = weights.view(*weights.shape[:2], -1, CHUNK).sum(-1).cumsum(-1)[..., -1:]
    if values.dtype is not torch.float32:
        return torch.bmm((weights / sums).to(values.dtype), values)
    total = weights.new_zeros(*weights.shape[:2], values.shape[-1])
    for start in range(0, values.shape[1], CHUNK):
        total.baddbmm_(weights[..., start : start + CHUNK], values[:, start : start + CHUNK])
    return total.div_(sums)
