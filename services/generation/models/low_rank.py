"""Low-rank changes of a net's linear layers: h = W·x + s·B·A·x (Hu et al. 2021, arXiv:2106.09685, eq. 3).

Reads and writes them as PEFT does, by its names. Knows no requests and no kernels.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from services.generation.models.causal_lm import CausalLM
from services.generation.models.layers import Conv1D
from services.runtime.errors import PreconditionFailed

FILE = "adapter_model.safetensors"
KEY = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")
BLOCKS = r"^(layers|h)\.\d+\."  # embeddings and head stay what they are


@dataclass(frozen=True, slots=True)
class LowRank:
    """down A [rank, in] and up s·B [out, rank], float32."""

    down: Tensor
    up: Tensor


Changes = Mapping[str, LowRank]  # by the name of the linear layer in the net


def load(path: Path, net: CausalLM, rename: Mapping[str, str], scale: float) -> Changes:
    """The pairs of a PEFT file, whose names `rename` turns into the net's; B times `scale`.

    PreconditionFailed if they do not fit the net.
    """
    layers, found = dict(linear_layers(net)), dict(_sides(path, rename))
    pairs = {}
    for name in sorted({name for name, _ in found}):
        if name not in layers:
            raise PreconditionFailed(f"the adapter changes {name}, which is no linear layer of the model's blocks")
        pairs[name] = _pair(name, layers[name], found, scale)
    if not pairs:
        raise PreconditionFailed(f"{path.name} holds no low-rank pair")
    return pairs


def save(path: Path, pairs: Mapping[str, tuple[Tensor, Tensor]], prefix: str) -> None:
    """A [rank, in] and B [out, rank] of each layer under PEFT's names; `prefix` is the checkpoint's own."""
    sides = {f"{name}.lora_{side}": w for name, pair in pairs.items() for side, w in zip("AB", pair, strict=True)}
    save_file({f"base_model.model.{prefix}{name}.weight": w.contiguous() for name, w in sides.items()}, path)


def linear_layers(net: CausalLM) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """Those of its blocks, by name."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and re.match(BLOCKS, name):
            yield name, module


def sizes(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """Outputs, inputs."""
    first, second = layer.weight.shape
    return (second, first) if isinstance(layer, Conv1D) else (first, second)


def _sides(path: Path, rename: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118
                matched = KEY.match(key)
                if matched is None:
                    raise PreconditionFailed(f"{path.name} holds {key}, which is no lora_A or lora_B weight")
                name = matched["layer"]
                for pattern, replacement in rename.items():
                    name = re.sub(pattern, replacement, name)
                yield (name, matched["side"]), file.get_tensor(key).float()
    except (OSError, SafetensorError) as error:
        raise PreconditionFailed(f"{path.name} is not a readable safetensors file: {error}") from error


def _pair(name: str, layer: nn.Linear | Conv1D, found: Mapping[tuple[str, str], Tensor], scale: float) -> LowRank:
    down, up = found.get((name, "A")), found.get((name, "B"))
    if down is None or up is None:
        raise PreconditionFailed(f"the adapter has one side only for {name}; lora_A and lora_B are needed")
    size_out, size_in = sizes(layer)
    shapes, rank = (tuple(down.shape), tuple(up.shape)), len(down)
    if not rank or shapes != ((rank, size_in), (size_out, rank)):
        raise PreconditionFailed(
            f"the adapter's pair for {name} is {shapes[0]} and {shapes[1]}; the model needs "
            f"(rank, {size_in}) and ({size_out}, rank), rank 1 or more: it was made for another base"
        )
    up = up * scale
    if not (down.isfinite().all() and up.isfinite().all()):
        raise PreconditionFailed(f"the adapter's pair for {name} holds numbers that are not finite")
    return LowRank(down.contiguous(), up.contiguous())


def merged(net: CausalLM, changes: Changes) -> dict[str, Tensor]:
    """The net's state with every change added to its weight."""
    state, layers = dict(net.state_dict()), dict(linear_layers(net))
    for name, pair in changes.items():
        whole = pair.up @ pair.down
        state[f"{name}.weight"] = layers[name].weight + (whole.T if isinstance(layers[name], Conv1D) else whole)
    return state
