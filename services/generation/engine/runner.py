"""Runs one step through the model: inputs → hidden states → logits. Knows no schedules and no sampling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.engine.adapted import AdaptedLayers
from services.generation.engine.device import sent
from services.generation.engine.graphs import Graphs, Record
from services.generation.engine.inputs import Layout, arranged, ends, inputs, layout, numbers
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.paged import PagedAttention
from services.generation.engine.row import Row
from services.generation.engine.step import Chunk, Step
from services.generation.models.attention import ROW_MULTIPLE
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes, LowRank


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
    """A model and its KV cache, both of one device and one number format.

    Every product has a multiple of ROW_MULTIPLE rows: see `models.attention`. `record`: what becomes of the passes
    of one token a sequence, see `graphs`; None = they are computed as any other.
    """

    def __init__(self, model: CausalLM, cache: KVCache, record: Record | None = None) -> None:
        self.model = model
        self.cache = cache
        self._layers = AdaptedLayers(model, cache.device)
        self._graphs = Graphs(self._recorded, cache, record) if record else None

    @torch.inference_mode()
    def run(self, step: Step) -> Computed:
        """One forward pass; the chunks' keys and values are in the cache afterwards."""
        chunks = arranged(step)
        hidden = self._graphs.hidden(chunks) if self._graphs else None
        if hidden is None:
            hidden = self._computed(chunks)
        return Computed(chunks, ends(chunks), hidden)

    def _computed(self, chunks: Sequence[Chunk]) -> Tensor:
        shapes, device = layout(chunks), self.cache.device
        told = sent(numbers(chunks, shapes, self.cache.block_size), device)
        with self._layers.serving(chunks):
            return self._hidden(told, shapes, listed=device.type == "cpu")

    def _recorded(self, told: Tensor, shapes: Layout) -> Tensor:
        """Nothing in it waits for the device or has a shape that its numbers decide."""
        return self._hidden(told, shapes, listed=False)

    def _hidden(self, told: Tensor, shapes: Layout, *, listed: bool) -> Tensor:
        given = inputs(told, shapes, self.cache, self.model.config, listed=listed)
        return self.model.hidden(given.tokens, given.positions, PagedAttention(given, self.cache))

    @torch.inference_mode()
    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        """Of these rows of the pass, any number of them. Three numbers a row come to the CPU, in one copy."""
        count, places = len(rows), sent(torch.tensor(list(rows)), self.cache.device)
        hidden = F.pad(computed.hidden.index_select(0, places), (0, 0, 0, -count % ROW_MULTIPLE))
        table = self.model.logits(hidden)[:count].float()
        peaks = table.max(-1)
        found = torch.stack((peaks.indices.double(), peaks.values.double(), table.logsumexp(-1).double()), -1)
        return [
            Row(table, place, int(best), peak, log_sum)
            for place, (best, peak, log_sum) in enumerate(found.tolist())
        ]

    def adapted(self, read: Callable[[CausalLM], Changes]) -> object:
        """The pairs, where and as the net's weights are."""
        dtype, device = self.cache.keys[0].dtype, self.cache.device
        return {
            name: LowRank(pair.down.to(device, dtype), pair.up.to(device, dtype))
            for name, pair in read(self.model).items()
        }

    def copy_block(self, source: int, target: int) -> None:
        """Keys and values of one KV block into another."""
        self.cache.copy_block(source, target)

    def close(self) -> None:
        """Tensors free themselves, recordings that know this runner do not."""
        self._graphs = None
