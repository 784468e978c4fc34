"""GGUF tensor bytes → float32, all blocks at once. Block layouts: ggml's ggml-common.h, restated here.

Q4_0: fp16 d, 16 bytes; w = d·(q − 8).  Q4_1: fp16 d, fp16 m, 16 bytes; w = d·q + m.
Q8_0: fp16 d, 32 int8; w = d·q.  In 4-bit blocks low nibbles are values 0-15, high nibbles 16-31.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.runtime.store.importers.gguf_file import GgufTensor

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def dequantise(tensor: GgufTensor) -> Floats:
    """The tensor as float32 of its shape."""
    _, size, convert = TYPES[tensor.kind]
    return convert(tensor.data.reshape(-1, size)).reshape(tensor.shape)


def _half(blocks: Bytes, start: int) -> Floats:
    """[n, 1] scale: the fp16 at byte `start` of each block."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    """[n, 16] bytes → [n, 32] values 0 … 15."""
    out = np.empty((len(packed), 32), np.float32)
    np.bitwise_and(packed, 15, out=out[:, :16], casting="unsafe")
    np.right_shift(packed, 4, out=out[:, 16:], casting="unsafe")
    return out


def _q4_0(blocks: Bytes) -> Floats:
    out = _nibbles(blocks[:, 2:])
    out -= 8
    out *= _half(blocks, 0)
    return out


def _q4_1(blocks: Bytes) -> Floats:
    out = _nibbles(blocks[:, 4:])
    out *= _half(blocks, 0)
    out += _half(blocks, 2)
    return out


def _q8_0(blocks: Bytes) -> Floats:
    out = blocks[:, 2:].view(np.int8).astype(np.float32)
    out *= _half(blocks, 0)
    return out


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


TYPES: dict[int, tuple[int, int, Callable[[Bytes], Floats]]] = {
    0: (1, 4, _f32),
    1: (1, 2, _f16),
    2: (32, 18, _q4_0),
    3: (32, 20, _q4_1),
    8: (32, 34, _q8_0),
    30: (1, 2, _bf16),
}
SIZES = {kind: (values, size) for kind, (values, size, _) in TYPES.items()}
