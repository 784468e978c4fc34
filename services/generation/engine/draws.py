"""Random numbers as a function of (seed, sequence, step). No state, so nothing can disturb a draw."""

import numpy as np


def uniform(seed: int, index: int, step: int) -> float:
    """A float64 in [0, 1) from Philox 4×64 (Salmon et al. 2011): key (seed, index), counter step."""
    key, counter = np.array([seed, index], np.uint64), np.array([step, 0, 0, 0], np.uint64)
    (word,) = np.random.Philox(key=key, counter=counter).random_raw(1)
    return float(int(word) >> 11) * 2.0**-53
