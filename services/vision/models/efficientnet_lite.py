"""EfficientNet-Lite (Tan & Le 2019; Lite: ReLU6, no squeeze-excite). Knows no files, no image formats."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (repeats, kernel, stride, expansion, output channels) of each stage of Lite0
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280

# checkpoint key → attribute here
RENAME: Mapping[str, str] = {
    r"^_conv_stem\.": "stem.conv.",
    r"^_bn0\.": "stem.norm.",
    r"^_conv_head\.": "head.conv.",
    r"^_bn1\.": "head.norm.",
    r"^_fc\.": "classifier.",
    r"^_blocks\.": "blocks.",
    r"\._expand_conv\.": ".expand.conv.",
    r"\._bn0\.": ".expand.norm.",
    r"\._depthwise_conv\.": ".depthwise.conv.",
    r"\._bn1\.": ".depthwise.norm.",
    r"\._project_conv\.": ".project.conv.",
    r"\._bn2\.": ".project.norm.",
}


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: ceil(input / stride) out, the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] → [N, C_out, ceil(H/s), ceil(W/s)]."""
        pad_y = _same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
        pad_x = _same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
        x = F.pad(x, (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> int:
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless `linear`, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SamePadConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] → [N, C_out, H', W']."""
        x = self.norm(self.conv(x))
        return x if self.linear else F.relu6(x)


class MobileBlock(nn.Module):
    """Inverted residual (Sandler et al. 2018): expand 1×1, depthwise k×k, project 1×1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = ConvNorm(inputs, width) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, outputs, linear=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] → [N, C_out, ceil(H/s), ceil(W/s)]."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Images to class logits and pooled features."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, kernel=3, stride=2)
        self.blocks = nn.Sequential(*_blocks())
        self.head = ConvNorm(LITE0_STAGES[-1][-1], HEAD_CHANNELS)
        self.classifier = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 [N, 3, H, W], normalised → logits [N, classes], features [N, 1280]."""
        features = torch.mean(self.head(self.blocks(self.stem(images))), dim=(2, 3))
        return self.classifier(features), features


def _blocks() -> list[MobileBlock]:
    made, channels = [], STEM_CHANNELS
    for repeats, kernel, stride, expansion, outputs in LITE0_STAGES:
        for index in range(repeats):
            made.append(MobileBlock(channels, outputs, kernel, stride if index == 0 else 1, expansion))
            channels = outputs
    return made
