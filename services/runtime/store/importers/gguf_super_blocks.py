"""GGUF's blocks of 256 values in 8 or 16 parts with small scales of their own. Layouts: ggml's ggml-common.h.

[n, size] bytes → [n, 256] float32. Products are taken in ggml's order: scale of the part first, then the value.
"""

import numpy as np

from services.runtime.store.importers.gguf_bits import LEVELS, Bytes, Floats, half, planes, raised


def q2_k(blocks: Bytes) -> Floats:
    """16 × (4-bit scale, 4-bit minimum), 256 × 2 bits, fp16 d and dmin; w = d·s·q − dmin·m."""
    scales = planes(blocks[:, :16], 1, 4)
    values = planes(blocks[:, 16:80], 2, 2).reshape(-1, 16, 16)
    return _scaled(values, half(blocks, 80) * scales[:, 0, 0], half(blocks, 82) * scales[:, 0, 1])


def q3_k(blocks: Bytes) -> Floats:
    """256 third bits, 256 × 2 bits, 16 × 6-bit scale, fp16 d; w = d·(s − 32)·(q − 4)."""
    low = planes(blocks[:, 96:104], 1, 4).reshape(-1, 16)
    scales = raised(low, planes(blocks[:, 104:108], 1, 2).reshape(-1, 16), 4).astype(np.float32) - 32
    thirds = planes(blocks[:, :32], 1, 1).reshape(-1, 16, 16)
    values = raised(planes(blocks[:, 32:96], 2, 2).reshape(-1, 16, 16), thirds, 2)
    return _scaled(values.astype(np.float32) - 4, half(blocks, 108) * scales)


def q4_k(blocks: Bytes) -> Floats:
    """fp16 d and dmin, 8 × (6-bit scale, 6-bit minimum), 256 × 4 bits; w = d·s·q − dmin·m."""
    return _scaled(planes(blocks[:, 16:], 4, 4).reshape(-1, 8, 32), *_six_bits(blocks))


def q5_k(blocks: Bytes) -> Floats:
    """As Q4_K, with 256 fifth bits between scales and values."""
    fifths = planes(blocks[:, 16:48], 1, 1).reshape(-1, 8, 32)
    return _scaled(raised(planes(blocks[:, 48:], 4, 4).reshape(-1, 8, 32), fifths, 4), *_six_bits(blocks))


def q6_k(blocks: Bytes) -> Floats:
    """256 × low 4 bits, 256 × high 2 bits, 16 int8 scales, fp16 d; w = d·s·(q − 32)."""
    low = planes(blocks[:, :128], 2, 4).reshape(-1, 16, 16)
    values = raised(low, planes(blocks[:, 128:192], 2, 2).reshape(-1, 16, 16), 4)
    return _scaled(values.astype(np.float32) - 32, half(blocks, 208) * blocks[:, 192:208].view(np.int8))


def q8_k(blocks: Bytes) -> Floats:
    """fp32 d, 256 int8, sums that only products need; w = d·q."""
    return np.ascontiguousarray(blocks[:, :4]).view("<f4") * blocks[:, 4:260].view(np.int8)


def iq4_xs(blocks: Bytes) -> Floats:
    """fp16 d, high 2 and low 4 bits of 8 scales, 256 × 4 bits; w = d·(s − 32)·LEVELS[q]."""
    low = planes(blocks[:, 4:8], 4, 4).reshape(-1, 8)
    scales = raised(low, planes(blocks[:, 2:4], 2, 2).reshape(-1, 8), 4).astype(np.float32) - 32
    return _scaled(LEVELS[planes(blocks[:, 8:], 8, 4).reshape(-1, 8, 32)], half(blocks, 0) * scales)


def _six_bits(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of Q4_K and Q5_K, [n, 8] each."""
    low = planes(blocks[:, 12:16], 1, 4)[:, 0]
    return (
        half(blocks, 0) * _eight(blocks[:, 4:8], low[:, 0]),
        half(blocks, 2) * _eight(blocks[:, 8:12], low[:, 1]),
    )


def _eight(first: Bytes, low: Bytes) -> Bytes:
    """Eight numbers of 6 bits: four in the low bits of `first`, whose high 2 bits go above `low` of the others."""
    others = raised(low, planes(first, 1, 2)[:, 0, 3], 4)
    return np.concatenate([first & np.uint8(63), others], axis=1)


def _scaled(values: Floats | Bytes, scales: Floats, minima: Floats | None = None) -> Floats:
    """values [n, parts, size], scales and minima [n, parts]."""
    out: Floats = scales[:, :, None] * values
    if minima is not None:
        out -= minima[:, :, None]
    return out.reshape(len(out), -1)
