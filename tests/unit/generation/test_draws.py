"""Draws are a pure function of seed, sequence and step."""

import numpy as np

from services.generation.engine.draws import uniform


def test_draws_repeat_and_differ_in_every_argument() -> None:
    assert uniform(1, 2, 3) == uniform(1, 2, 3)
    around = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (2**64 - 1, 2, 3)]
    assert len({uniform(*arguments) for arguments in around}) == len(around)


def test_a_stream_equals_the_library_generator() -> None:
    """numpy advances its counter before each block, so step s is its block s."""
    raw = np.random.Philox(key=np.array([9, 0], np.uint64), counter=np.array([5, 0, 0, 0], np.uint64)).random_raw()
    assert uniform(9, 0, 5) == (int(raw) >> 11) / 2**53


def test_draws_are_uniform() -> None:
    found = np.array([uniform(seed, 0, step) for seed in range(40) for step in range(100)])
    counts, _ = np.histogram(found, bins=20, range=(0, 1))
    assert found.min() >= 0 and found.max() < 1
    assert ((counts - 200) ** 2 / 200).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
