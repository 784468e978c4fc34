"""Step → tensors of one forward pass: tokens, positions, where keys go, what each query sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.engine.blocks import NULL_BLOCK
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.step import Chunk, Step
from services.generation.models.attention import ROW_MULTIPLE, hidden_keys, round_up
from services.generation.models.config import CHUNK, ModelConfig


@dataclass(frozen=True, slots=True)
class Segment:
    """`batch` neighbouring chunks of `queries` tokens each that attend in one call, from row `start` on.

    unused: which of the gathered [batch · kv heads · length] keys lie behind the end of their chunk.
    """

    start: int
    batch: int
    queries: int
    cache_rows: Tensor
    hidden: Tensor
    unused: Tensor

    @property
    def stop(self) -> int:
        return self.start + self.batch * self.queries


@dataclass(frozen=True, slots=True)
class Inputs:
    """Token rows of all chunks in `chunks` order, then padding to ROW_MULTIPLE that writes to the null block."""

    chunks: tuple[Chunk, ...]
    tokens: Tensor
    positions: Tensor
    slots: Tensor
    segments: tuple[Segment, ...]

    @property
    def ends(self) -> list[int]:
        """One past the last row of each chunk."""
        return torch.tensor([chunk.count for chunk in self.chunks]).cumsum(0).tolist()


def prepare(step: Step, cache: KVCache, config: ModelConfig) -> Inputs:
    """Chunks are sorted so that those of one shape (tokens, length of context) share a segment."""
    chunks = tuple(sorted(step.chunks, key=_shape))
    positions = _pad([place for chunk in chunks for place in range(chunk.start, chunk.end)])
    blocks = _pad([block for chunk in chunks for block in _block_per_token(chunk, cache.block_size)], NULL_BLOCK)
    return Inputs(
        chunks=chunks,
        tokens=_pad([token for chunk in chunks for token in chunk.tokens]),
        positions=positions,
        slots=cache.slots(blocks, positions % cache.block_size),
        segments=tuple(_segments(chunks, cache, config)),
    )


def _shape(chunk: Chunk) -> tuple[int, int]:
    """Chunks of equal shape attend together; lengths are rounded to powers of two of CHUNK keys."""
    return chunk.count, ((chunk.end - 1) // CHUNK).bit_length()


def _pad(values: list[int], fill: int = 0) -> Tensor:
    return F.pad(torch.tensor(values), (0, -len(values) % ROW_MULTIPLE), value=fill)


def _block_per_token(chunk: Chunk, block_size: int) -> Iterable[int]:
    return (chunk.sequence.blocks[place // block_size] for place in range(chunk.start, chunk.end))


def _segments(chunks: Iterable[Chunk], cache: KVCache, config: ModelConfig) -> Iterable[Segment]:
    start = 0
    for _, alike in groupby(chunks, key=_shape):
        segment = _segment(start, list(alike), cache, config)
        start = segment.stop
        yield segment


def _segment(start: int, chunks: list[Chunk], cache: KVCache, config: ModelConfig) -> Segment:
    length = round_up(max(chunk.end for chunk in chunks), CHUNK)
    width = length // cache.block_size
    tables = torch.tensor([_table(chunk, width) for chunk in chunks])
    positions = torch.tensor([range(chunk.start, chunk.end) for chunk in chunks])
    group = config.num_attention_heads // config.num_key_value_heads
    return Segment(
        start=start,
        batch=len(chunks),
        queries=chunks[0].count,
        cache_rows=cache.table_rows(tables),
        hidden=hidden_keys(positions, length, group, config.sliding_window),
        unused=_unused([chunk.end for chunk in chunks], length, config.num_key_value_heads),
    )


def _unused(ends: list[int], length: int, kv_heads: int) -> Tensor:
    behind = torch.arange(length) >= torch.tensor(ends).unsqueeze(1)
    return behind.repeat_interleave(kv_heads, dim=0).flatten().nonzero().flatten()


def _table(chunk: Chunk, width: int) -> list[int]:
    """The chunk's block table, cut or filled up with the null block to `width` blocks."""
    blocks = chunk.sequence.blocks[:width]
    return blocks + [NULL_BLOCK] * (width - len(blocks))
