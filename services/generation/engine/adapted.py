"""Adds adapters' low-rank products to the rows that want them, by hooks on a net's linear layers. Knows no steps.

Products of a row have a multiple of ROW_MULTIPLE rows, as everywhere: its bits do not depend on its mates.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from services.generation.engine.device import sent
from services.generation.engine.step import Chunk
from services.generation.models.attention import ROW_MULTIPLE
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes, linear_layers


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that share one adapter: int64 [count], then the last again to ROW_MULTIPLE."""

    changes: Changes
    places: Tensor
    count: int


class AdaptedLayers:
    """The hooks of one net, set at the first adapter: until then they cost nothing. One thread computes."""

    def __init__(self, net: CausalLM, device: torch.device) -> None:
        self._net, self._device = net, device
        self._hooked = False
        self._rows: Sequence[Rows] = ()

    @contextmanager
    def serving(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """Within the block the net's rows are those of these chunks, one behind the other."""
        self._rows = _rows(chunks, self._device)
        if self._rows and not self._hooked:
            self._hooked = True
            for name, layer in linear_layers(self._net):
                layer.register_forward_hook(partial(self._add, name))
        try:
            yield
        finally:
            self._rows = ()

    def _add(self, name: str, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for rows in self._rows:
            pair = rows.changes.get(name)
            if pair is not None:
                change = F.linear(F.linear(inputs[0][rows.places], pair.down), pair.up)
                output.index_add_(0, rows.places[: rows.count], change[: rows.count])


def _rows(chunks: Sequence[Chunk], device: torch.device) -> list[Rows]:
    places: dict[int, list[int]] = {}
    changes: dict[int, Any] = {}
    start = 0
    for chunk in chunks:
        adapter = chunk.sequence.request.adapter
        if adapter is not None:
            changes[id(adapter)] = adapter.weights
            places.setdefault(id(adapter), []).extend(range(start, start + chunk.count))
        start += chunk.count
    return [Rows(changes[key], sent(_padded(own), device), len(own)) for key, own in places.items()]


def _padded(places: list[int]) -> Tensor:
    return torch.tensor(places + places[-1:] * (-len(places) % ROW_MULTIPLE))
