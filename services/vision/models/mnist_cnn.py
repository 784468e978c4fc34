"""A small digit classifier: three convolutions and two linear layers. Knows no files, no images."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

# checkpoint key → attribute here
RENAME: Mapping[str, str] = {
    r"^conv_layers\.0\.": "convs.0.",
    r"^conv_layers\.3\.": "convs.1.",
    r"^conv_layers\.6\.": "convs.2.",
    r"^fc_layers\.0\.": "hidden.",
    r"^fc_layers\.2\.": "classifier.",
}


class MnistCnn(nn.Module):
    """28×28 greyscale, white ink on black, to class logits and 256 hidden features."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        widths = ((1, 32), (32, 64), (64, 128))
        self.convs = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in widths)
        self.hidden = nn.Linear(128 * 3 * 3, 256)
        self.classifier = nn.Linear(256, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [N, 1, 28, 28], normalised → logits [N, classes], features [N, 256]."""
        x = images
        for conv in self.convs:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        features = F.relu(self.hidden(x.flatten(1)))
        return self.classifier(features), features
