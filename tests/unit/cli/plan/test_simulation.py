"""The fleet's simulation against the bulk queue's exact law, against another simulation and arithmetic."""

import numpy as np
import pytest

from cli.plan.processes import Call, Cost, Process
from cli.plan.queueing import SEED, Array, batching
from cli.plan.simulation import Walk
from tests.unit.cli.plan.simulation import arrivals, pooled

CALLS = 20_000
SETTLED = 1_000
BATCHES = 4e-3 + 1e-3 * np.arange(1, 9)


def walked(rate: float, processes: list[Process], way: list[tuple[int, ...]], spread: float = 1.0) -> list[Call]:
    calls = [Call(came, 0, way, spread) for came in arrivals(rate, CALLS, SEED)]
    Walk(processes, calls).run()
    return calls


def stays(calls: list[Call]) -> Array:
    return np.array([call.left - call.came for call in calls])[SETTLED:]


def lone(process: Process, *moments: float) -> list[float]:
    """How long calls stay that come at these moments."""
    calls = [Call(came, 0, [(0,)]) for came in moments]
    Walk([process], calls).run()
    return [call.left - call.came for call in calls]


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_one_station_is_as_the_law_of_the_bulk_queue(load: float) -> None:
    rate = load * len(BATCHES) / BATCHES[-1]
    station = Process(0, {0: Cost(BATCHES)})
    calls = walked(rate, [station], [(0,)])
    told = batching(rate, BATCHES)
    assert station.worked / calls[-1].left == pytest.approx(told.busy, rel=0.02)
    assert stays(calls).mean() == pytest.approx(told.sojourns.mean(), rel=0.05)
    for share in (0.5, 0.99):
        assert np.quantile(stays(calls), share) == pytest.approx(np.quantile(told.sojourns, share), rel=0.08)


def test_a_pool_is_as_another_simulation_has_it() -> None:
    rate, pool = 4 * 0.6 / BATCHES[0], tuple(range(1, 5))
    replicas = [Process(place, {0: Cost(BATCHES)}) for place in range(5)]
    replicas[0] = Process(0, {0: Cost(np.zeros(32))})  # who chooses, in no time
    comes = arrivals(rate, CALLS, SEED)
    leaves = pooled(comes, lambda size: float(BATCHES[size - 1]), len(BATCHES), len(pool))
    other = (np.array(leaves) - np.array(comes))[SETTLED:]
    found = stays(walked(rate, replicas, [(0,), pool, (0,)]))
    assert found.mean() == pytest.approx(other.mean(), rel=0.03)
    assert np.quantile(found, 0.99) == pytest.approx(np.quantile(other, 0.99), rel=0.05)


def test_who_slept_longer_takes_longer_and_who_is_at_work_does_not_wake() -> None:
    cost = Cost(np.array([1.0, 1.5]), (1.0, 3.0), (0.0, 0.5))
    assert lone(Process(0, {0: cost}), 2.0, 2.5, 10.0) == pytest.approx([1.25, 1.75, 1.5])


def test_two_share_a_core_evenly_and_a_second_visit_pays_the_other_half() -> None:
    front, caller = Process(0, {0: Cost(np.array([1.0, 1.5]), visits=2)}), Process(0, {0: Cost(np.array([2.0]))})
    calls = [Call(came, 0, [(0,), (1,), (0,)], 1.0) for came in (1.0, 1.1)]
    Walk([front, caller], calls).run()
    # the first alone to 1.5, its caller beside the second to 2.5, alone to 4.0, and so on
    assert [call.left for call in calls] == pytest.approx([5.0, 7.0])


def test_spread_multiplies_what_a_call_costs() -> None:
    calls = walked(1e-3, [Process(0, {0: Cost(BATCHES)})], [(0,)], spread=3.0)
    assert np.median(stays(calls)) == pytest.approx(3 * BATCHES[0])


def test_what_a_call_has_by_itself_shares_the_core_with_the_batch_before() -> None:
    """The first prepares to 1, computes beside the second's preparing to 3 and ends; then the second, to 4."""
    assert lone(Process(0, {0: Cost(np.array([2.0, 3.0]), alone=1.0)}), 0.0, 1.0) == pytest.approx([3.0, 3.0])
