"""Step → tensors of one forward pass: tokens, positions, where keys go, what each query sees.

Plain numbers are laid one behind the other on the CPU, so that one copy takes them to the device; everything else
is made of them there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice

import torch
from torch import Tensor

from services.generation.engine.blocks import NULL_BLOCK
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.step import Chunk, Step
from services.generation.models.attention import ROW_MULTIPLE, hidden_keys, round_up
from services.generation.models.config import CHUNK, ModelConfig


@dataclass(frozen=True, slots=True)
class Span:
    """`batch` neighbouring chunks of `queries` tokens each that attend in one call, from row `start` on, to
    `length` keys each, a multiple of CHUNK."""

    start: int
    batch: int
    queries: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.batch * self.queries


@dataclass(frozen=True, slots=True)
class Layout:
    """Every shape of a pass: its rows, a multiple of ROW_MULTIPLE, and the spans in them, in order."""

    rows: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A span's tensors. hidden: from `hidden_keys`.

    unused: which of the gathered keys lie behind the end of their chunk: places in [batch · kv heads · length], or
    bool [batch · kv heads, length, 1].
    """

    span: Span
    cache_rows: Tensor
    hidden: Tensor
    unused: Tensor


@dataclass(frozen=True, slots=True)
class Inputs:
    """Token rows of all chunks in order, then padding that writes to the null block."""

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    segments: tuple[Segment, ...]


def arranged(step: Step) -> tuple[Chunk, ...]:
    """The chunks, sorted so that those of one shape share a span."""
    return tuple(sorted(step.chunks, key=_shape))


def ends(chunks: Iterable[Chunk]) -> list[int]:
    """One past the last row of each chunk."""
    return list(accumulate(chunk.count for chunk in chunks))


def layout(chunks: Sequence[Chunk]) -> Layout:
    """Of arranged chunks."""
    return Layout(round_up(sum(chunk.count for chunk in chunks), ROW_MULTIPLE), tuple(_spans(chunks)))


def numbers(chunks: Sequence[Chunk], shapes: Layout, block_size: int) -> Tensor:
    """int64: the token of each row, its position, its block; then the block tables, span by span. Rows and tables
    that no chunk fills are zeros: token 0 at position 0 of the null block."""
    counts = _rows(chunks, block_size)
    padding = [NULL_BLOCK] * (shapes.rows - len(counts[0]))
    tables = list(_tables(chunks, shapes, block_size))
    missing = [NULL_BLOCK] * (sum(_table_sizes(shapes, block_size)) - len(tables))
    return torch.tensor([number for part in counts for number in (*part, *padding)] + tables + missing)


def inputs(told: Tensor, shapes: Layout, cache: KVCache, config: ModelConfig, *, listed: bool) -> Inputs:
    """Of `numbers` on the cache's device, without waiting for it.

    listed: list the unused keys, which costs a tenth of a mask on a CPU, but has no shape that is known before.
    """
    tokens, positions, blocks, *tables = torch.split(
        told, [shapes.rows] * 3 + _table_sizes(shapes, cache.block_size)
    )
    return Inputs(
        tokens=tokens,
        positions=positions,
        slots=cache.slots(blocks, positions % cache.block_size),
        segments=tuple(
            _segment(span, positions, table, cache, config, listed)
            for span, table in zip(shapes.spans, tables, strict=True)
        ),
    )


def _shape(chunk: Chunk) -> tuple[int, int]:
    """Chunks of equal shape attend together; lengths are rounded to powers of two of CHUNK keys."""
    return chunk.count, ((chunk.end - 1) // CHUNK).bit_length()


def _spans(chunks: Iterable[Chunk]) -> Iterator[Span]:
    start = 0
    for (queries, _), alike in groupby(chunks, key=_shape):
        reach = [chunk.end for chunk in alike]
        span = Span(start, len(reach), queries, round_up(max(reach), CHUNK))
        start = span.stop
        yield span


def _rows(chunks: Sequence[Chunk], block_size: int) -> tuple[list[int], list[int], list[int]]:
    """Token, position and block of each row."""
    places = [(chunk.sequence.blocks, place) for chunk in chunks for place in range(chunk.start, chunk.end)]
    return (
        [token for chunk in chunks for token in chunk.tokens],
        [place for _, place in places],
        [blocks[place // block_size] for blocks, place in places],
    )


def _tables(chunks: Iterable[Chunk], shapes: Layout, block_size: int) -> Iterator[int]:
    """Each chunk's block table, cut or filled up with the null block to its span's length."""
    left = iter(chunks)
    for span in shapes.spans:
        width = span.length // block_size
        for chunk in islice(left, span.batch):
            blocks = chunk.sequence.blocks[:width]
            yield from blocks
            yield from [NULL_BLOCK] * (width - len(blocks))


def _table_sizes(shapes: Layout, block_size: int) -> list[int]:
    return [span.batch * span.length // block_size for span in shapes.spans]


def _segment(
    span: Span, positions: Tensor, table: Tensor, cache: KVCache, config: ModelConfig, listed: bool
) -> Segment:
    own = positions[span.start : span.stop].view(span.batch, span.queries)
    group = config.num_attention_heads // config.num_key_value_heads
    behind = torch.arange(span.length, device=own.device) > own[:, -1:]
    unused = behind.repeat_interleave(cache.kv_heads, dim=0)
    return Segment(
        span=span,
        cache_rows=cache.table_rows(table.view(span.batch, -1)),
        hidden=hidden_keys(own, span.length, group, config.sliding_window),
        unused=unused.flatten().nonzero().flatten() if listed else unused.unsqueeze(-1),
    )
