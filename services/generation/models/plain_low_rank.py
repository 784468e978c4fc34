"""Low-rank changes in the plain form: what is rewritten of W is linear in it, so W + B·A becomes W' + B'·A'.

Changes of layers that the plain form fuses are fused as well: A one above the other, B block by block.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from services.generation.models.causal_lm import CausalLM
from services.generation.models.gpt2 import GPT2LMHeadModel
from services.generation.models.low_rank import Changes, sizes
from services.generation.models.plain import PRODUCTS, Affine, PlainLM
from services.runtime.weights import without_weights


@dataclass(frozen=True, slots=True)
class PlainChange:
    """y += up·(down·x + down's bias); up [out, rank], the bias is that of the norm in front."""

    down: Affine
    up: Tensor


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block keeps what makes a product: the norm in front and the linear layers, in order."""

    norm: str | None
    layers: tuple[str, ...]


_LLAMA: Mapping[str, _Place] = {
    "qkv": _Place("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    "out": _Place(None, ("self_attn.o_proj",)),
    "up": _Place("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    "down": _Place(None, ("mlp.down_proj",)),
}
_GPT2: Mapping[str, _Place] = {
    "qkv": _Place("ln_1", ("attn.c_attn",)),
    "out": _Place(None, ("attn.c_proj",)),
    "up": _Place("ln_2", ("mlp.c_fc",)),
    "down": _Place(None, ("mlp.c_proj",)),
}


def plain_changes(net: CausalLM, form: PlainLM, changes: Changes) -> Iterator[Mapping[str, PlainChange]]:
    """Layer by layer the products that change, in the terms of `form`, which is of this net."""
    gpt2 = isinstance(net, GPT2LMHeadModel)
    places, blocks = (_GPT2, "h") if gpt2 else (_LLAMA, "layers")
    for number, block in enumerate(net.get_submodule(blocks).children()):
        own = {
            name.removeprefix(f"{blocks}.{number}."): pair
            for name, pair in changes.items()
            if name.startswith(f"{blocks}.{number}.")
        }
        found = {product: _change(block, places[product], own) for product in PRODUCTS}
        yield {product: _rewritten(form, product, change) for product, change in found.items() if change}


def outline(net: CausalLM) -> CausalLM:
    """The net with its norms and biases alone, which is all that packing an adapter reads of it."""
    with without_weights():
        bare = type(net)(net.config)
    own = {name: value for name, value in net.state_dict().items() if value.dim() == 1}
    bare.load_state_dict(own, strict=False, assign=True)
    return bare


def _change(block: nn.Module, place: _Place, own: Changes) -> PlainChange | None:
    """The fused change of one product, still in the net's own terms."""
    chosen = [name for name in place.layers if name in own]
    if not chosen:
        return None
    down = Affine(torch.cat([own[name].down for name in chosen]))
    down = down if place.norm is None else down.after(block.get_submodule(place.norm))
    return PlainChange(down, _blockwise(block, place.layers, own))


def _blockwise(block: nn.Module, layers: Sequence[str], own: Changes) -> Tensor:
    """Each layer's outputs read its own ranks alone; those of a layer without a change read none."""
    parts = []
    for name in layers:
        layer: Any = block.get_submodule(name)
        parts.append(own[name].up if name in own else torch.zeros(sizes(layer)[0], 0))
    whole: Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
    return whole


def _rewritten(form: PlainLM, product: str, change: PlainChange) -> PlainChange:
    down, up = form.takes(product, change.down), form.gives(product, Affine(change.up))
    return PlainChange(down, up.weight.contiguous())
