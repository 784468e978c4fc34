"""GGUF tensor data made at random, of every type the importer reads."""

import gguf
import numpy as np
from gguf import quants
from numpy.typing import NDArray

Q = gguf.GGMLQuantizationType
# Where a block keeps its fp16 scales; random bytes there would be NaN and infinity too.
SCALES = {
    Q.Q4_0: (0,), Q.Q4_1: (0, 2), Q.Q5_0: (0,), Q.Q5_1: (0, 2), Q.Q8_0: (0,), Q.IQ4_NL: (0,), Q.IQ4_XS: (0,),
    Q.Q2_K: (80, 82), Q.Q3_K: (108,), Q.Q4_K: (0, 2), Q.Q5_K: (0, 2), Q.Q6_K: (208,),
}  # fmt: skip


def random_data(kind: Q, shape: tuple[int, int], spread: float, seed: int) -> NDArray[np.generic]:
    """What the writer takes for a tensor of `shape` whose values are about `spread` in size."""
    draw = np.random.default_rng(seed)
    if kind not in SCALES:
        return quants.quantize(draw.normal(0, spread, shape).astype(np.float32), kind)
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = draw.integers(0, 256, (shape[0] * shape[1] // values, size), dtype=np.uint8)
    scaled(blocks, kind, np.ones(len(blocks)))
    factor = spread / float(quants.dequantize(blocks, kind).std())
    return scaled(blocks, kind, factor * draw.uniform(0.5, 1.5, len(blocks))).reshape(shape[0], -1)


def scaled(blocks: NDArray[np.uint8], kind: Q, factors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The blocks with their scales set."""
    for place in SCALES[kind]:
        blocks[:, place : place + 2] = factors.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks
