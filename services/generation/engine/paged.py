"""Attention of one pass over the KV cache's blocks. Knows no net, no sequences and no schedules."""

import torch
from torch import Tensor

from services.generation.engine.inputs import Inputs
from services.generation.engine.kv_cache import KVCache
from services.generation.models.attention import block_attention


class PagedAttention:
    """Writes a layer's keys and values to the cache, then lets each segment attend to its blocks."""

    def __init__(self, inputs: Inputs, cache: KVCache) -> None:
        self._inputs = inputs
        self._cache = cache

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query: [rows, heads, d]; key, value: [rows, kv heads, d] → [rows, heads · d]; padding rows are zero."""
        self._cache.write(layer, self._inputs.slots, key, value)
        out = torch.zeros_like(query)
        for part in self._inputs.segments:
            span = part.span
            rows = slice(span.start, span.stop)
            keys, values = self._cache.gather(layer, part.cache_rows, span.batch)
            _blank(values, part.unused)
            own = query[rows].view(span.batch, span.queries, *query.shape[1:])
            out[rows] = block_attention(own, keys, values, part.hidden).flatten(0, 1)
        return out.flatten(1)


def _blank(values: Tensor, unused: Tensor) -> None:
    """values: [batch · kv heads, length, d], in place. 0 · NaN of others would be NaN."""
    if unused.dtype is torch.bool:
        values.masked_fill_(unused, 0.0)
    else:
        values.view(-1, values.shape[-1]).index_fill_(0, unused, 0.0)
