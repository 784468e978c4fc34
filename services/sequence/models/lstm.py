"""Stacked LSTMs that read a whole series of any length and name its class. Knows no units, no labels' names."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class LstmClassifier(nn.Module):
    """LSTM layers (Hochreiter & Schmidhuber 1997), a linear layer on the last one's state after the last step.

    `config`: features, hidden_sizes ([64, 32]), classes.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = [int(config["features"]), *map(int, config.get("hidden_sizes", (64, 32)))]
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], int(config["classes"]))

    def forward(self, series: Tensor, lengths: Tensor) -> tuple[Tensor]:
        """Float32 [B, T, features] standard scores, right-padded; int64 [B] steps of each row, at least 1.

        Returns logits [B, classes]. A layer never looks ahead, so padding changes nothing before it.
        """
        states = series
        for layer in self.layers:
            states, _ = layer(states)
        last = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return (self.head(torch.gather(states, 1, last)[:, 0]),)
