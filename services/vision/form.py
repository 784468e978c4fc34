"""Small inputs of a net in their wire form → one array for a whole call. Computes nothing.

What is not of this kind is left to `convert.pictures`, which also names what is wrong with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from maas.common.v1.tensor_pb2 import D_TYPE_FP32, Tensor
from maas.vision.v1.vision_pb2 import Image
from services.vision.prepare import MOST_TOGETHER, Prepared, block


@dataclass(frozen=True, slots=True)
class Form:
    """Inputs of one net as they travel: `head`, the same for all of them, then float32 of `shape` [C, H, W]."""

    shape: tuple[int, ...]
    head: bytes
    size: int

    def read(self, images: Sequence[Image], field: str) -> Prepared | None:
        """All of them as one block; None unless each is such an input, and they are finite and few."""
        many, length = len(images), len(self.head) + self.size
        if many * self.size > 4 * MOST_TOGETHER or not all(image.HasField("pixels") for image in images):
            return None
        # Written again, as the library does: whatever field a caller has set beside these would show.
        wires = [image.SerializeToString() for image in images]
        if not all(len(wire) == length and wire.startswith(self.head) for wire in wires):
            return None
        cells = np.frombuffer(b"".join(wires), np.uint8).reshape(many, length)[:, len(self.head) :]
        return block(np.ascontiguousarray(cells).view("<f4").reshape(many, *self.shape), f"{field}[{{}}].pixels")


@cache
def form(shape: tuple[int, ...]) -> Form:
    """That of a net's inputs."""
    size = 4 * math.prod(shape)
    image = Image(pixels=Tensor(dtype=D_TYPE_FP32, shape=shape, data=bytes(size)))
    return Form(shape, image.SerializeToString()[:-size], size)
