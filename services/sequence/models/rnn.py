"""A plain recurrent net that looks at a window of a series and says the next step. Knows no units, no horizon."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class RnnForecaster(nn.Module):
    """h_t = tanh(W x_t + U h_{t−1} + b) (Elman 1990), a linear layer on the last h.

    `config`: features (1), hidden_size (10). The state starts at zero for every row and has the batch's size.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        features, hidden = int(config.get("features", 1)), int(config.get("hidden_size", 10))
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, features)

    def forward(self, window: Tensor) -> tuple[Tensor]:
        """Float32 [B, W, features] standard scores → (the next step's, [B, features])."""
        states, _ = self.rnn(window)
        return (self.head(states[:, -1]),)
