"""Runs one step through the eight-bit kernels: chunks → arrays → hidden states → logits. Knows no schedules."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, repeat

import numpy as np
import torch
from torch import Tensor

from services.generation.engine.row import Row
from services.generation.engine.runner import Computed
from services.generation.engine.step import Chunk, Step
from services.generation.kernels.native import Batch, Kernels
from services.generation.kernels.packed import PackedModel, cell_pointers, zero_cells
from services.generation.kernels.packed_adapter import PackedAdapter, adapted_rows
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes
from services.generation.models.plain import PlainLM
from services.generation.models.plain_low_rank import outline

INT_BYTES = 4


class KernelRunner:
    """A packed net, its KV cells and the threads that compute it. The net itself tells how adapters are packed."""

    def __init__(self, packed: PackedModel, net: CausalLM, num_blocks: int, kernels: Kernels) -> None:
        self._packed, self._kernels, self._config = packed, kernels, net.config
        self._outline = outline(net)
        self._cells = zero_cells(net.config, num_blocks)
        self._cell_pointers = cell_pointers(self._cells)
        self._cells_at = ctypes.addressof(self._cell_pointers)
        self._hidden = torch.empty(0, net.config.hidden_size)
        self._logits = torch.empty(0, packed.model.head.outputs)

    @property
    def digest(self) -> str:
        """Of what decides a row's numbers; instruction sets that fuse products and sums agree to the bit."""
        return self._packed.digest if self._kernels.fuses else f"{self._packed.digest} {self._kernels.isa}"

    def run(self, step: Step) -> Computed:
        """One pass; what the arrays hold is in `native.Batch`."""
        chunks = _by_adapter(step.chunks)
        counts = [chunk.count for chunk in chunks]
        rows, width = sum(counts), max(len(chunk.sequence.blocks) for chunk in chunks)
        arrays = np.fromiter(
            chain(_rows(chunks), _tables(chunks, width)), np.int32, 3 * rows + len(chunks) * width
        )
        self._hidden = _room(self._hidden, rows)
        at = arrays.ctypes.data
        adapters = [_packed_adapter(chunk) for chunk in chunks]
        parts = adapted_rows(adapters, counts)
        batch = Batch(
            rows=rows,
            table_width=width,
            tokens=at,
            positions=at + INT_BYTES * rows,
            sequences=at + INT_BYTES * 2 * rows,
            tables=at + INT_BYTES * 3 * rows,
            cells=self._cells_at,
            hidden=self._hidden.data_ptr(),
            parts=len(parts),
            ranks=max((adapter.ranks for adapter in adapters if adapter), default=0),
            adapted=ctypes.addressof(parts),
        )
        self._kernels.forward(self._packed.model, batch)
        return Computed(chunks, list(accumulate(counts)), self._hidden)

    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        """Of these rows of the pass. They lie where those of the next call will."""
        self._logits = _room(self._logits, len(rows))
        vocab, out = self._config.vocab_size, self._logits.data_ptr()
        told = self._kernels.logits(self._packed.model, computed.hidden.data_ptr(), rows, vocab, out)
        table = self._logits[:, :vocab]
        return [Row(table, *row) for row in zip(range(len(rows)), *told, strict=True)]

    @cached_property
    def _form(self) -> PlainLM:
        """Its orthogonal matrices take seconds for a wide net: once, and where no adapter comes never."""
        return PlainLM(self._outline)

    def adapted(self, read: Callable[[CausalLM], Changes]) -> object:
        """The pairs, packed."""
        return PackedAdapter(self._outline, self._form, read(self._outline))

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


def _room(rows: Tensor, count: int) -> Tensor:
    """Float32 rows as they are, or more of them if there are fewer than `count`."""
    return rows if rows.shape[0] >= count else torch.empty(count, rows.shape[1])


def _rows(chunks: Sequence[Chunk]) -> Iterator[int]:
    """The token of each row, then each row's position, then the place of its chunk."""
    yield from chain.from_iterable(chunk.tokens for chunk in chunks)
    yield from chain.from_iterable(range(chunk.start, chunk.end) for chunk in chunks)
    yield from chain.from_iterable(repeat(place, chunk.count) for place, chunk in enumerate(chunks))


def _tables(chunks: Sequence[Chunk], width: int) -> Iterator[int]:
    """[chunks, width]: the blocks of each, filled up with zeros that nothing reads."""
    for blocks in (chunk.sequence.blocks for chunk in chunks):
        yield from blocks
        yield from repeat(0, width - len(blocks))
