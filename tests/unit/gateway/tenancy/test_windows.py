"""The sliding-window counter against a list of what happened, and the promise of when there is room."""

import random

import pytest

from gateway.tenancy.counts import LocalCounts
from gateway.tenancy.windows import COMPUTE, REQUESTS, TOKENS, Window
from tests.clock import Clock

MINUTE = Window(REQUESTS, 10, 60)


def counts(clock: Clock, **more: float) -> LocalCounts:
    return LocalCounts(clock=clock, **more)


def test_as_many_as_the_limit_and_no_more() -> None:
    local = counts(Clock(600.0))
    assert [local.take("t", (MINUTE,), {}).fits for _ in range(12)] == [True] * 10 + [False] * 2
    assert local.take("u", (MINUTE,), {}).fits


@pytest.mark.parametrize("seed", range(20))
def test_no_burst_gets_much_more_and_the_wait_is_true(seed: int) -> None:
    """Counted by fixed windows, a burst over a window's edge would get the limit twice."""
    draw, clock, let_in = random.Random(seed), Clock(1e9 + draw_from(seed)), list[float]()
    local = counts(clock)
    for _ in range(400):
        clock.now += draw.expovariate(1.0) if draw.random() < 0.3 else 0.01
        taken = local.take("t", (MINUTE,), {})
        if taken.fits:
            let_in.append(clock.now)
            continue
        wait = taken.counts[0].wait_s(MINUTE, clock.now)
        assert 0 < wait <= 120
        clock.now += wait + 1e-6
        assert local.take("t", (MINUTE,), {}).fits
        let_in.append(clock.now)
    for begin, span in ((at, span) for at in let_in for span in (6, 30, 60)):
        assert sum(begin <= at < begin + span for at in let_in) <= (1 + span / 60) * MINUTE.limit + 1


def draw_from(seed: int) -> float:
    return random.Random(-seed).uniform(0, 3600)


@pytest.mark.parametrize("kind", [TOKENS, COMPUTE])
def test_a_debt_is_paid_off_before_the_next(kind: str) -> None:
    clock, window = Clock(600.0), Window(kind, 100, 60)
    local = counts(clock)
    assert local.take("t", (window,), {}).fits
    refused = local.take("t", (window,), {kind: 500.0})
    assert not refused.fits
    wait = refused.counts[0].wait_s(window, clock.now)
    assert wait == pytest.approx(60 + 0.8 * 60)
    clock.now += wait - 0.01
    assert not local.take("t", (window,), {}).fits
    clock.now += 0.02
    assert local.take("t", (window,), {}).fits


def test_a_refused_call_counts_nowhere() -> None:
    clock, day = Clock(86400.0), Window(REQUESTS, 1000, 86400)
    local = counts(clock)
    for _ in range(50):
        local.take("t", (MINUTE, day), {})
    assert [count.now for count in local.take("t", (MINUTE, day), {}).counts] == [10, 10]


def test_a_share_of_the_limit() -> None:
    local = counts(Clock(600.0), share=0.5)
    assert sum(local.take("t", (MINUTE,), {}).fits for _ in range(12)) == 5


def test_what_no_window_looks_at_is_forgotten() -> None:
    clock = Clock(600.0)
    local = counts(clock)
    for i in range(100):
        local.take(f"t{i}", (MINUTE,), {})
    clock.now += 121
    local.take("now", (MINUTE,), {})
    local.forget()
    assert len(local._counts) == 1
