"""The formulas against simulated time: two ways to the same numbers."""

from itertools import pairwise

import numpy as np
import pytest

from cli.plan.queueing import Array, batching, sharing
from tests.unit.cli.plan.simulation import arrivals, batched, shared

CALLS = 30_000
SETTLED = 2_000
MOST = 8
FIXED, EACH = 4e-3, 1e-3  # a batch costs, and each call in it
BATCHES = FIXED + EACH * np.arange(1, MOST + 1)


def seen(comes: list[float], leaves: list[float]) -> Array:
    return (np.array(leaves) - np.array(comes))[SETTLED:]


@pytest.mark.parametrize("load", [0.2, 0.5, 0.85])
def test_a_batching_station_is_as_simulated(load: float) -> None:
    rate = load * MOST / BATCHES[-1]
    comes = arrivals(rate, CALLS, 1)
    leaves, worked = batched(comes, lambda size: float(BATCHES[size - 1]), MOST)
    told = batching(rate, BATCHES)
    assert told.load == pytest.approx(load)
    assert told.busy == pytest.approx(worked / leaves[-1], rel=0.02)
    assert told.sojourns.mean() == pytest.approx(seen(comes, leaves).mean(), rel=0.05)
    for share in (0.5, 0.9, 0.99):
        assert np.quantile(told.sojourns, share) == pytest.approx(
            np.quantile(seen(comes, leaves), share), rel=0.08
        )


def test_without_batches_it_is_pollaczek_and_khinchine() -> None:
    length, load = 2e-3, 0.7
    told = batching(load / length, np.array([length]))
    assert told.busy == pytest.approx(load, rel=1e-3)
    assert told.sojourns.mean() == pytest.approx(length + load * length / (2 * (1 - load)), rel=0.02)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_shared_processor_has_the_mean_that_was_simulated(load: float) -> None:
    together = 0.02 + 0.004 * np.arange(1, 33)
    rate = load * 32 / together[-1]
    comes = arrivals(rate, CALLS // 2, 2)
    leaves = shared(comes, lambda size: float(together[min(size, 32) - 1]) * max(1.0, size / 32), 3)
    told = sharing(rate, together)
    assert told.sojourns.mean() == pytest.approx(seen(comes, leaves).mean(), rel=0.05)


def test_beyond_its_most_nothing_is_promised() -> None:
    for station in (batching, sharing):
        assert not station(1.01 * MOST / BATCHES[-1], BATCHES).stable


def test_more_calls_never_wait_less() -> None:
    most = MOST / BATCHES[-1]
    means = [batching(load * most, BATCHES).sojourns.mean() for load in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert all(fewer < more for fewer, more in pairwise(means))
