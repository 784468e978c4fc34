"""Runs one step through the model: inputs → hidden states → logits. Knows no schedules and no sampling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.engine.adapted import AdaptedLayers
from services.generation.engine.inputs import Inputs, prepare
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.row import Row
from services.generation.engine.step import Chunk, Step
from services.generation.models.attention import ROW_MULTIPLE, block_attention
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes


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
            rows = slice(part.start, part.stop)
            keys, values = self._cache.gather(layer, part.cache_rows, part.batch)
            values.view(-1, values.shape[-1]).index_fill_(0, part.unused, 0.0)  # 0 · NaN of others would be NaN
            own = query[rows].view(part.batch, part.queries, *query.shape[1:])
            out[rows] = block_attention(own, keys, values, part.hidden).flatten(0, 1)
        return out.flatten(1)


@dataclass(frozen=True, slots=True)
class Computed:
    """Hidden states [rows, hidden_size] of one pass, valid until the next; those of each chunk end before its
    place in `ends`."""

    chunks: Sequence[Chunk]
    ends: Sequence[int]
    hidden: Tensor


class Runner(Protocol):
    """A net with its KV cache. A row's numbers depend on its own context alone, whatever else is computed."""

    def run(self, step: Step) -> Computed:
        """One forward pass; the chunks' keys and values are in the cache afterwards."""

    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        """Of these rows of the pass."""

    def adapted(self, read: Callable[[CausalLM], Changes]) -> object:
        """What an `Adapter` carries for this runner; `read` gives the changes of a net. Called on any thread."""

    def copy_block(self, source: int, target: int) -> None:
        """Keys and values of one KV block into another."""

    def close(self) -> None:
        """Frees what the garbage collector does not."""


class ModelRunner:
    """A model and its KV cache. Every product has a multiple of ROW_MULTIPLE rows: see `models.attention`."""

    def __init__(self, model: CausalLM, cache: KVCache) -> None:
        self.model = model
        self.cache = cache
        self._layers = AdaptedLayers(model)

    @torch.inference_mode()
    def run(self, step: Step) -> Computed:
        """One forward pass; the chunks' keys and values are in the cache afterwards."""
        inputs = prepare(step, self.cache, self.model.config)
        attend = PagedAttention(inputs, self.cache)
        with self._layers.serving(inputs.chunks):
            hidden = self.model.hidden(inputs.tokens, inputs.positions, attend)
        return Computed(inputs.chunks, inputs.ends, hidden)

    @torch.inference_mode()
    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        """Of these rows of the pass, any number of them."""
        count = len(rows)
        hidden = F.pad(computed.hidden[list(rows)], (0, 0, 0, -count % ROW_MULTIPLE))
        table = self.model.logits(hidden)[:count]
        peaks = table.max(-1)
        told = (peaks.indices.tolist(), peaks.values.tolist(), table.logsumexp(-1).tolist())
        return [Row(table, *row) for row in zip(range(count), *told, strict=True)]

    def adapted(self, read: Callable[[CausalLM], Changes]) -> object:
        """The pairs as they are."""
        return read(self.model)

    def copy_block(self, source: int, target: int) -> None:
        """Keys and values of one KV block into another."""
        self.cache.copy_block(source, target)

    def close(self) -> None:
        """Tensors free themselves."""
