"""The breaker, by an injected clock."""

from services.runtime.breaker import Breaker
from tests.clock import Clock


def test_it_opens_after_faults_in_a_row_and_not_before():
    breaker = Breaker(3, 10, Clock(0.0))
    for _ in range(2):
        breaker.fault()
    breaker.success()
    for _ in range(2):
        breaker.fault()
    assert breaker.allow() and not breaker.is_open
    breaker.fault()
    assert breaker.is_open and not breaker.allow()


def test_one_probe_a_pause_decides():
    clock = Clock(0.0)
    breaker = Breaker(1, 10, clock)
    breaker.fault()
    clock.now = 9.9
    assert not breaker.allow()
    clock.now = 10
    assert breaker.allow() and not breaker.allow()
    breaker.fault()
    clock.now = 19.9
    assert not breaker.allow()
    clock.now = 20
    assert breaker.allow()
    breaker.success()
    assert breaker.allow() and breaker.allow() and not breaker.is_open


def test_a_probe_that_never_reports_does_not_keep_it_open_for_ever():
    clock = Clock(0.0)
    breaker = Breaker(1, 10, clock)
    breaker.fault()
    clock.now = 10
    assert breaker.allow()
    clock.now = 20
    assert breaker.allow()


def test_changes_are_told_once():
    told: list[bool] = []
    breaker = Breaker(2, 10, Clock(0.0), told.append)
    for act in (breaker.fault, breaker.fault, breaker.fault, breaker.success, breaker.success):
        act()
    assert told == [True, False]
