"""A small convolutional classifier: 3×3 convolutions, pools, two linear layers. Knows no files, no images."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNet(nn.Module):
    """A convolution, ReLU and 2×2 pool for each entry of `widths`, a hidden layer, logits.

    Convolutions do not pad: a block leaves ⌊(side − 2) / 2⌋ of each side.
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 28,
        widths: Sequence[int] = (32, 64),
        hidden: int = 64,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3) for a, b in pairwise([channels, *widths]))
        for _ in widths:
            size = (size - 2) // 2
        self.hidden = nn.Linear(widths[-1] * size * size, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [N, channels, size, size], normalised → logits [N, classes], features [N, hidden]."""
        x = images
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        features = F.relu(self.hidden(x.flatten(1)))
        return self.classifier(features), features
