"""Random numbers as a function of (seed, sequence, step). No state, so nothing can disturb a draw."""

import numpy as np


def uniform(seed: int, index: int, step: int) -> float:
    """A float64 in [0, 1) from Philox 4×64 (Salmon et al. 2011): seed and index are the key, step the counter."""
    (word,) = np.random.Philox(key=[seed, index], counter=[step, 0, 0, 0]).random_raw(1)
    return float(int(word) >> 11) * 2.0**-53
