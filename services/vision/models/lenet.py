"""LeNet-5's plan with ReLU and max pooling, for colour pictures. Knows no files, no images."""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Conv 6 5×5, pool, conv 16 5×5, pool, 120, 84, classes (LeCun et al. 1998, fig. 2)."""

    def __init__(self, channels: int = 3, size: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 5), nn.Conv2d(6, 16, 5)
        side = ((size - 4) // 2 - 4) // 2
        self.fc1, self.fc2 = nn.Linear(16 * side * side, 120), nn.Linear(120, 84)
        self.classifier = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [N, channels, size, size], normalised → logits [N, classes], features [N, 84]."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        features = F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))
        return self.classifier(features), features
