"""Stacked LSTMs that read a whole series of any length and name its class. Knows no units, no labels' names."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class LstmClassifier(nn.Module):
    """LSTM layers (Hochreiter & Schmidhuber 1997), a linear layer on the last one's state after the last step.

    `config`: features, hidden_sizes ([64, 32]), classes; embeds (false): also give the state that is judged.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths = [int(config["features"]), *map(int, config.get("hidden_sizes", (64, 32)))]
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], int(config["classes"]))
        self.embeds = bool(config.get("embeds", False))

    def forward(self, series: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Float32 [B, T, features] standard scores, right-padded; int64 [B] steps of each row, at least 1.

        Returns logits [B, classes], and if it embeds the last state [B, hidden]. Rows are packed: no step after a
        row's end is computed, and the exporter
        refuses the net, which it would fix to the number of steps it was shown.
        """
        packed: Any = pack_padded_sequence(series, lengths.cpu(), batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            packed, (hidden, _) = layer(packed)
        logits = self.head(hidden[0])
        return (logits, hidden[0]) if self.embeds else (logits,)
