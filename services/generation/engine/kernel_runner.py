"""Runs one step through the eight-bit kernels: chunks → arrays → hidden states → logits. Knows no schedules."""

import ctypes
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.generation.engine.row import Row
from services.generation.engine.runner import Computed
from services.generation.engine.step import Chunk, Step
from services.generation.kernels.native import Batch, Kernels
from services.generation.kernels.packed import PackedModel, cell_pointers, zero_cells
from services.generation.kernels.packed_adapter import PackedAdapter, adapted_rows
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes
from services.generation.models.plain_low_rank import outline


class KernelRunner:
    """A packed net, its KV cells and the threads that compute it. The net itself tells how adapters are packed."""

    def __init__(self, packed: PackedModel, net: CausalLM, num_blocks: int, kernels: Kernels) -> None:
        self._packed, self._kernels, self._config = packed, kernels, net.config
        self._outline = outline(net)
        self._cells = zero_cells(net.config, num_blocks)
        self._cell_pointers = cell_pointers(self._cells)
        self._logits = np.empty((0, 0), np.float32)
        self._cells_at = ctypes.addressof(self._cell_pointers)

    def run(self, step: Step) -> Computed:
        """One pass; what the arrays hold is in `native.Batch`."""
        chunks = _by_adapter(step.chunks)
        counts = [chunk.count for chunk in chunks]
        tokens = np.array([token for chunk in chunks for token in chunk.tokens], np.int32)
        positions = np.array([place for chunk in chunks for place in range(chunk.start, chunk.end)], np.int32)
        owners = np.repeat(np.arange(len(chunks), dtype=np.int32), counts)
        tables = _tables(chunks)
        hidden = np.empty((len(tokens), self._config.hidden_size), np.float32)
        arrays = {
            "tokens": tokens,
            "positions": positions,
            "sequences": owners,
            "tables": tables,
            "hidden": hidden,
        }
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        adapters = [_packed_adapter(chunk) for chunk in chunks]
        parts = adapted_rows(adapters, counts)
        batch = Batch(
            rows=len(tokens),
            table_width=tables.shape[1],
            cells=self._cells_at,
            parts=len(parts),
            ranks=max((adapter.ranks for adapter in adapters if adapter), default=0),
            adapted=ctypes.addressof(parts),
            **pointers,
        )
        self._kernels.forward(self._packed.model, batch)
        return Computed(chunks, list(accumulate(counts)), torch.from_numpy(hidden))

    def logits(self, hidden: Tensor) -> list[Row]:
        """hidden: [rows, hidden_size] before the last norm. The rows lie where those of the next call will."""
        count, vocab = len(hidden), self._config.vocab_size
        if count > len(self._logits):
            self._logits = np.empty((count, self._packed.model.head.outputs), np.float32)
        rows = np.ascontiguousarray(hidden.numpy())
        best, log_sums = self._kernels.logits(self._packed.model, rows, vocab, self._logits)
        found = torch.from_numpy(self._logits[:count, :vocab])
        return list(map(Row, found, best.tolist(), log_sums.tolist()))

    def adapted(self, changes: Changes) -> object:
        """The pairs, packed."""
        return PackedAdapter(self._outline, changes)

    def copy_block(self, source: int, target: int) -> None:
        """The cells of one KV block into another."""
        self._cells[:, target] = self._cells[:, source]

    def close(self) -> None:
        """Ends the threads."""
        self._kernels.close()


def _by_adapter(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Those of one adapter side by side, so that it is read once; as they are where there is none."""
    if not any(chunk.sequence.request.adapter for chunk in chunks):
        return chunks
    return sorted(chunks, key=lambda chunk: id(chunk.sequence.request.adapter))


def _packed_adapter(chunk: Chunk) -> PackedAdapter | None:
    adapter = chunk.sequence.request.adapter
    if adapter is None:
        return None
    assert isinstance(adapter.weights, PackedAdapter)
    return adapter.weights


def _tables(chunks: Sequence[Chunk]) -> NDArray[np.int32]:
    """[chunks, most blocks of one], filled up with zeros that nothing reads."""
    tables = np.zeros((len(chunks), max(len(chunk.sequence.blocks) for chunk in chunks)), np.int32)
    for row, chunk in zip(tables, chunks, strict=True):
        row[: len(chunk.sequence.blocks)] = chunk.sequence.blocks
    return tables
