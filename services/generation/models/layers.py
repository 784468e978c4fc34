"""Building blocks shared by the architectures. Knows nothing of caches, batches or tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.generation.models.rope import Rope


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last axis (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose checkpoints store the weight as [in, out]."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_in, size_out).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(size_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class GatedMlp(nn.Module):
    """down(silu(gate(x)) · up(x)) (Shazeer 2020, SwiGLU)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return gated


class RotaryAngles:
    """Of rotary positions (Su et al. 2021). What all positions share is made once for a device."""

    def __init__(self, head_dim: int, rope: Rope) -> None:
        self._head_dim, self._rope = head_dim, rope
        self._pace: Tensor | None = None

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions: int64 [tokens] → cos and sin, each [tokens, 1, head_dim / 2] float32."""
        if self._pace is None or self._pace.device != positions.device:
            self._pace = _pace(self._head_dim, self._rope).to(positions.device)
        angles = (positions.to(torch.float32).unsqueeze(-1) / self._pace).unsqueeze(-2)
        return angles.cos() * self._rope.amplitude, angles.sin() * self._rope.amplitude


def _pace(head_dim: int, rope: Rope) -> Tensor:
    """[head_dim / 2] float32: a position turns each pair by itself over this, in radians."""
    pace = rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return pace * torch.tensor(rope.divisors) if rope.divisors else pace


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [tokens, heads, head_dim] by its angle (half-split form).

    cos, sin: float32; of a narrower x only the result is rounded.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
