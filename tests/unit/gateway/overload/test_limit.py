"""The limit finds what a service keeps up with: simulated, so that the right answer is known."""

from itertools import count

import pytest

from gateway.overload.limit import DELAY_S, SHED_GRADIENT, Limit

START, FLOOR, CEILING = 32, 4, 512


def rounds(limit: Limit, count: int, seconds: float, least_s: float, in_flight: int | None = None) -> None:
    """So many rounds of answers that took that long; unless told, with all that may be in flight."""
    for number in range(count):
        for _ in range(limit.calls):
            busy = limit.calls if in_flight is None else in_flight
            if limit.took(seconds, least_s, busy, number * 1e-3):
                break


def settled(work_s: float, least_s: float) -> Limit:
    """After a long overload of a service that answers one call each `work_s`, whatever is in flight."""
    limit = Limit(FLOOR, CEILING, START)
    for _ in range(60):
        rounds(limit, 1, max(least_s, limit.calls * work_s), least_s)
    return limit


@pytest.mark.parametrize(("work_s", "least_s"), [(0.015, 0.02), (0.002, 0.003), (0.0004, 0.002)])
def test_what_waits_inside_a_service_is_bounded_in_time(work_s: float, least_s: float) -> None:
    calls = settled(work_s, least_s).calls
    waits = calls * work_s - least_s
    assert least_s + 0.5 * DELAY_S <= calls * work_s and waits <= DELAY_S + (2 * calls**0.5 + 1) * work_s


def test_slow_calls_keep_the_floor() -> None:
    assert settled(work_s=1, least_s=1).calls <= FLOOR + 2


def test_it_grows_only_as_it_is_used() -> None:
    idle, busy = (Limit(FLOOR, CEILING, START) for _ in range(2))
    rounds(idle, 50, 0.01, 0.01, in_flight=START // 2 - 1)
    rounds(busy, 50, 0.01, 0.01)
    assert idle.calls == START and busy.calls > 4 * START


def test_it_stays_within_its_bounds() -> None:
    limit = Limit(FLOOR, 40, START)
    rounds(limit, 100, 0.01, 0.01)
    assert limit.calls == 40
    rounds(limit, 100, 10, 0.01)
    assert limit.calls <= FLOOR + 2
    limit.collapse()
    assert limit.calls == FLOOR


def test_load_that_the_service_sheds_shrinks_it_whatever_the_latency() -> None:
    limit = Limit(FLOOR, CEILING, 100)
    limit.shed()
    rounds(limit, 1, 0.001, 0.001)
    assert limit.calls == int(100 * SHED_GRADIENT)


def test_the_mean_is_that_of_the_last_round_and_forgotten_in_time() -> None:
    limit, clock = Limit(FLOOR, CEILING, FLOOR), count()
    assert limit.mean_s(0) == 0
    while not limit.took(0.5, 0.5, 1, next(clock) * 1e-3):
        pass
    assert limit.mean_s(0.1) == 0.5 and limit.mean_s(60) == 0
