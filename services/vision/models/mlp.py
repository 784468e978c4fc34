"""A multilayer perceptron over pixels: 784-10-10-10 for digits. Knows no files, no images."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Flattened pictures through ReLU layers; ReLU(x) = max(0, x) (Nair & Hinton 2010)."""

    def __init__(self, inputs: int = 784, hidden: Sequence[int] = (10, 10), classes: int = 10) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [N, C, H, W] with C·H·W = inputs → logits [N, classes], features [N, last hidden width]."""
        features = images.flatten(1)
        for layer in self.layers:
            features = F.relu(layer(features))
        return self.classifier(features), features
