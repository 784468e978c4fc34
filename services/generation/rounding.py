"""Weights rounded to few bits and held in floats: what a precision without a runner would cost. Serves nothing."""

import torch
from torch import Tensor, nn

from services.generation.models.causal_lm import CausalLM
from services.generation.models.layers import Conv1D

GROUP = 64


@torch.inference_mode()
def rounded(net: CausalLM, bits: int) -> CausalLM:
    """The net itself, its linear layers' weights rounded to nearest; embeddings, and a head tied to them, stay."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.weight = _frozen(grouped(module.weight, bits))
        elif isinstance(module, Conv1D):
            module.weight = _frozen(grouped(module.weight.T, bits).T)
    return net


def grouped(weight: Tensor, bits: int) -> Tensor:
    """[out, in]: each GROUP inputs of an output share a scale, max |w| / (2^(bits−1) − 1), and no offset."""
    rows, columns = weight.shape
    parts = nn.functional.pad(weight, (0, -columns % GROUP)).view(rows, -1, GROUP)
    scale = (parts.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp(min=torch.finfo().tiny)
    found: Tensor = (parts / scale).round() * scale
    return found.view(rows, -1)[:, :columns]


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.contiguous(), requires_grad=False)
