"""Low-rank adapters on frozen linear layers. Knows linear layers, not what they are part of.

h = W·x + (α/r)·B·A·x (Hu et al. 2021, arXiv:2106.09685, eq. 3).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.generation.models.layers import Conv1D


class Lora(nn.Module):
    """A frozen linear layer with a trainable product of two thin matrices; B starts at 0, so at first it is W."""

    def __init__(self, base: nn.Linear | Conv1D, rank: int, alpha: float) -> None:
        super().__init__()
        size_out, size_in = weight_of(base).shape
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, size_in))
        self.up = nn.Parameter(torch.zeros(size_out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)
        return out

    def merged(self) -> Tensor:
        """W + (α/r)·B·A, laid out as the base stores its weight."""
        whole = weight_of(self.base) + self.scale * (self.up @ self.down)
        return (whole.t() if isinstance(self.base, Conv1D) else whole).detach().contiguous()


def weight_of(layer: nn.Linear | Conv1D) -> Tensor:
    """[out, in]: GPT-2's layers store the transpose."""
    return layer.weight.t() if isinstance(layer, Conv1D) else layer.weight


def adapt(model: nn.Module, rank: int, alpha: float) -> None:
    """Freezes `model` and puts an adapter on every linear layer of its blocks; embeddings and head stay."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear | Conv1D) and name != "lm_head":
                setattr(parent, name, Lora(child, rank, alpha))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the model without adapters, their products added in; a model without any as it is."""
    state: dict[str, Tensor] = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, Lora):
            inner = {key: state.pop(key) for key in list(state) if key.startswith(name + ".")}
            plain = {f"{name}.{key.removeprefix(f'{name}.base.')}": inner[key] for key in inner if ".base." in key}
            state.update(plain, **{f"{name}.weight": module.merged()})
    return state
