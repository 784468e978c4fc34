"""Windows of one series, the steps after them, forecasts fed back into themselves. Knows no data and no units."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class WindowRows:
    """Every stretch of `window` steps whose next step lies in [first, end), as standard scores."""

    def __init__(self, scores: NDArray[np.float32], window: int, first: int, end: int) -> None:
        series = torch.from_numpy(scores)
        self.windows = series.unfold(0, window, 1).transpose(1, 2)[first - window : end - window].contiguous()
        self.targets = series[first:end]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [batch, window, features], float32 [batch, features]."""
        return self.windows[indices], self.targets[indices]


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """MSE (1/N) Σ (ŷᵢ − yᵢ)² of the next step, in standard scores."""
    windows, targets = batch
    return F.mse_loss(model(windows)[0], targets)


def roll_out(model: nn.Module, windows: Tensor, steps: int) -> NDArray[np.float32]:
    """Standard scores [B, steps, features] after `windows` [B, W, features], each forecast fed back as known."""
    model.eval()
    found: list[Tensor] = []
    with torch.inference_mode():
        for _ in range(steps):
            found.append(model(windows)[0])
            windows = torch.cat([windows[:, 1:], found[-1][:, None]], 1)
    return torch.stack(found, 1).numpy()
