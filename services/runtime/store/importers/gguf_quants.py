"""GGUF tensor bytes → float32, all blocks at once. Block layouts: ggml's ggml-common.h, restated here.

Q4_0: fp16 d, 16 bytes; w = d·(q − 8).  Q4_1: fp16 d, fp16 m, 16 bytes; w = d·q + m.
Q5_0, Q5_1: the same with the 32 fifth bits before the bytes; Q5_0 subtracts 16.  Q8_0: fp16 d, 32 int8; w = d·q.
IQ4_NL: fp16 d, 16 bytes; w = d·LEVELS[q].  In all of them low nibbles are values 0-15, high nibbles 16-31.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from services.runtime.store.importers import gguf_super_blocks as super_blocks
from services.runtime.store.importers.gguf_bits import LEVELS, Bytes, Floats, half, planes, raised
from services.runtime.store.importers.gguf_file import GgufTensor


def dequantise(tensor: GgufTensor) -> Floats:
    """The tensor as float32 of its shape."""
    kind = TYPES[tensor.kind]
    return kind.convert(tensor.data.reshape(-1, kind.size)).reshape(tensor.shape)


def _nibbles(packed: Bytes) -> Bytes:
    """[n, 16] bytes → [n, 32] values 0 … 15."""
    return planes(packed, 1, 4).reshape(-1, 32)


def _fifths(packed: Bytes) -> Bytes:
    """[n, 4] bytes and [n, 16] bytes → [n, 32] values 0 … 31."""
    return raised(_nibbles(packed[:, 4:]), np.unpackbits(packed[:, :4], axis=1, bitorder="little"), 4)


def _q4_0(blocks: Bytes) -> Floats:
    return half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return half(blocks, 0) * _nibbles(blocks[:, 4:]) + half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    return half(blocks, 0) * (_fifths(blocks[:, 2:]).astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return half(blocks, 0) * _fifths(blocks[:, 4:]) + half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return half(blocks, 0) * blocks[:, 2:].view(np.int8)


def _iq4_nl(blocks: Bytes) -> Floats:
    return half(blocks, 0) * LEVELS[_nibbles(blocks[:, 2:])]


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


class Kind(NamedTuple):
    """A tensor type: the values and bytes of a block, and [n, size] bytes → [n, values] float32."""

    values: int
    size: int
    convert: Callable[[Bytes], Floats]


TYPES: dict[int, Kind] = {
    0: Kind(1, 4, _f32),  # F32
    1: Kind(1, 2, _f16),  # F16
    2: Kind(32, 18, _q4_0),  # Q4_0
    3: Kind(32, 20, _q4_1),  # Q4_1
    6: Kind(32, 22, _q5_0),  # Q5_0
    7: Kind(32, 24, _q5_1),  # Q5_1
    8: Kind(32, 34, _q8_0),  # Q8_0
    10: Kind(256, 84, super_blocks.q2_k),  # Q2_K
    11: Kind(256, 110, super_blocks.q3_k),  # Q3_K
    12: Kind(256, 144, super_blocks.q4_k),  # Q4_K
    13: Kind(256, 176, super_blocks.q5_k),  # Q5_K
    14: Kind(256, 210, super_blocks.q6_k),  # Q6_K
    15: Kind(256, 292, super_blocks.q8_k),  # Q8_K
    20: Kind(32, 18, _iq4_nl),  # IQ4_NL
    23: Kind(256, 136, super_blocks.iq4_xs),  # IQ4_XS
    30: Kind(1, 2, _bf16),  # BF16
}
SIZES = {kind: (known.values, known.size) for kind, known in TYPES.items()}
