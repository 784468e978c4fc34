"""Passes of one token a sequence as CUDA graphs: recorded once a shape, then replayed on new numbers.

A pass of a few rows is hundreds of small kernels, which a CPU launches slower than a GPU computes them. Knows no
net: what it records is a function of numbers that lie in one place and of shapes. `OnCuda` has never run: no GPU
was at hand.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.generation.engine.device import pinned
from services.generation.engine.inputs import Layout, Span, numbers
from services.generation.engine.kv_cache import KVCache
from services.generation.engine.step import Chunk
from services.generation.models.attention import ROW_MULTIPLE, round_up
from services.generation.models.config import CHUNK

log = logging.getLogger("maas.engine")

MOST_GRAPHS = 64  # kept of one net; those of 64 sequences and 8,192 tokens are 56
WARM_UPS = 2  # passes before the recording, in which libraries choose kernels and take their workspace

Forward = Callable[[], Tensor]
Record = Callable[[Forward], Forward]


class OnCuda:
    """CUDA graphs of one device that share their memory, as only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, forward: Forward) -> Forward:
        """Other threads may go on using the device meanwhile."""
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    forward()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                hidden = forward()

        def replay() -> Tensor:
            graph.replay()
            return hidden

        return replay


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is replayed, and where it finds its numbers."""

    told: Tensor
    replay: Forward


class Graphs:
    """Recordings of `forward` by padded shape, made when first needed, the longest unused going first."""

    def __init__(self, forward: Callable[[Tensor, Layout], Tensor], cache: KVCache, record: Record) -> None:
        self._forward, self._cache, self._record = forward, cache, record
        self._kept: OrderedDict[Layout, Recorded] = OrderedDict()
        self._off = False

    def hidden(self, chunks: Sequence[Chunk]) -> Tensor | None:
        """[rows, hidden_size], those of the chunks first, valid until the next pass; None where the pass is of
        another kind, or recording has failed once."""
        if self._off or not fits(chunks):
            return None
        shapes = padded(chunks)
        told = numbers(chunks, shapes, self._cache.block_size)
        recorded = self._kept.get(shapes) or self._made(shapes, told)
        if recorded is None:
            return None
        self._kept.move_to_end(shapes)
        recorded.told.copy_(pinned(told, self._cache.device), non_blocking=True)
        return recorded.replay()

    def _made(self, shapes: Layout, first: Tensor) -> Recorded | None:
        """Where there is no room for a recording, there may be enough for the pass."""
        told = first.to(self._cache.device, copy=True)
        try:
            replay = self._record(lambda: self._forward(told, shapes))
        except RuntimeError:
            log.exception("passes are not recorded from now on")
            self._off = True
            self._kept.clear()
            return None
        self._kept[shapes] = Recorded(told, replay)
        if len(self._kept) > MOST_GRAPHS:
            self._kept.popitem(last=False)
        return self._kept[shapes]


def fits(chunks: Sequence[Chunk]) -> bool:
    """Whether each sequence computes one token, none by an adapter."""
    return all(chunk.count == 1 and chunk.sequence.request.adapter is None for chunk in chunks)


def padded(chunks: Sequence[Chunk]) -> Layout:
    """One span for all: a power of two of sequences, and of CHUNKs of context."""
    batch = _power(len(chunks))
    length = CHUNK * _power(-(-max(chunk.end for chunk in chunks) // CHUNK))
    return Layout(round_up(batch, ROW_MULTIPLE), (Span(0, batch, 1, length),))


def _power(count: int) -> int:
    """The least power of two that is ≥ `count`."""
    return 1 << (count - 1).bit_length()
