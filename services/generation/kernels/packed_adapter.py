"""An adapter as the structures that the kernels read. Knows no requests."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from services.generation.kernels import packing
from services.generation.kernels.native import PANEL, Adapted, Change, Linear, LowRank
from services.generation.models.causal_lm import CausalLM
from services.generation.models.low_rank import Changes
from services.generation.models.plain import Affine, PlainLM
from services.generation.models.plain_low_rank import PlainChange, plain_changes

PART_ROWS = 64  # of a prompt: the threads share what adapters read


class PackedAdapter:
    """Holds the tensors for as long as `layers` points into them. ranks: the most of a product, in whole panels.

    A is in bytes like every weight, B in floats: it is read for the rows of its adapter alone.
    """

    @torch.inference_mode()
    def __init__(self, net: CausalLM, form: PlainLM, changes: Changes) -> None:
        """`form` is of `net`."""
        self._tensors: list[Tensor] = []
        self.ranks = 0
        self._gated = form.gated
        self.layers = (Change * net.config.num_hidden_layers)(
            *(self._layer(products) for products in plain_changes(net, form, changes))
        )

    def _layer(self, products: Mapping[str, PlainChange]) -> Change:
        return Change(**{name: self._low_rank(name, change) for name, change in products.items()})

    def _low_rank(self, product: str, change: PlainChange) -> LowRank:
        down, up = change.down, Affine(change.up)
        down = packing.for_spread(down) if product == "down" else down
        up = packing.interleaved(up) if product == "up" and self._gated else up
        rank = len(down.weight)
        self.ranks = max(self.ranks, -(-rank // PANEL) * PANEL)
        panels = up.weight.view(-1, PANEL, rank).transpose(1, 2)
        return LowRank(down=self._linear(down), rank=rank, up=self._kept(panels))

    def _linear(self, affine: Affine) -> Linear:
        parts = {name: self._kept(tensor) for name, tensor in packing.packed(affine)}
        outputs = -(-len(affine.weight) // PANEL) * PANEL
        return Linear(inputs=affine.weight.shape[1], outputs=outputs, **parts)

    def _kept(self, tensor: Tensor) -> int:
        self._tensors.append(tensor.contiguous())
        return self._tensors[-1].data_ptr()


def adapted_rows(adapters: Sequence[PackedAdapter | None], counts: Sequence[int]) -> Any:
    """`Adapted` parts of rows that lie chunk behind chunk, `counts` rows each. Neighbours of one adapter join."""
    parts: list[Adapted] = []
    start, last = 0, None
    for adapter, count in zip(adapters, counts, strict=True):
        if adapter is not None and adapter is last and parts[-1].count + count <= PART_ROWS:
            parts[-1].count += count
        elif adapter is not None:
            at = ctypes.addressof(adapter.layers)
            parts += [
                Adapted(first=start + done, count=min(PART_ROWS, count - done), change=at)
                for done in range(0, count, PART_ROWS)
            ]
        start, last = start + count, adapter
    return (Adapted * len(parts))(*parts)
