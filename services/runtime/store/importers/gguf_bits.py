"""What every GGUF block is made of: small scales and numbers of a few bits. Knows no block's layout."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# The sixteen values of ggml's non-linear four-bit types (kvalues_iq4nl in ggml-common.h).
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def half(blocks: Bytes, start: int) -> Floats:
    """[n, 1] scale: the fp16 at byte `start` of each block."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def planes(packed: Bytes, groups: int, bits: int) -> Bytes:
    """[n, bytes] → [n, groups, 8 / bits, bytes / groups]: of each group the lowest bits of every byte, then the
    next, up to the highest."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    out: Bytes = packed.reshape(len(packed), groups, 1, -1) >> shifts & np.uint8((1 << bits) - 1)
    return out


def raised(low: Bytes, high: Bytes, bits: int) -> Bytes:
    """low + high · 2^bits, still in a byte."""
    out: Bytes = low | high << np.uint8(bits)
    return out
