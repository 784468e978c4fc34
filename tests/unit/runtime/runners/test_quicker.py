"""Of two ways the quicker one is taken, whichever that is by now."""

from collections import Counter
from collections.abc import Callable

from services.runtime.runners.quicker import NARROW, SELDOM, TRIES, WIDE, Quicker

QUIET, BUSY = {NARROW: 1.6, WIDE: 1.0}, {NARROW: 2.0, WIDE: 4.0}


def calls(quicker: Quicker, count: int, seconds: Callable[[int], float]) -> Counter[int]:
    """How many went which way."""
    went: Counter[int] = Counter()
    for _ in range(count):
        way = quicker.way()
        quicker.took(way, seconds(way))
        went[way] += 1
    return went


def test_several_threads_that_are_at_their_best_are_left_alone() -> None:
    assert calls(Quicker(), 1000, QUIET.__getitem__)[NARROW] == TRIES


def test_where_one_thread_is_quicker_it_is_taken_and_several_are_tried_now_and_then() -> None:
    went = calls(Quicker(), 10 * SELDOM, BUSY.__getitem__)
    assert 3 * TRIES <= went[WIDE] <= 14 * TRIES


def test_it_changes_its_mind_when_the_machine_does() -> None:
    quicker = Quicker()
    calls(quicker, 500, QUIET.__getitem__)
    assert calls(quicker, 40, BUSY.__getitem__)[NARROW] > 25
    calls(quicker, 500, BUSY.__getitem__)
    assert calls(quicker, 2 * SELDOM, QUIET.__getitem__)[WIDE] > 25


def test_where_everything_got_slower_several_threads_stay() -> None:
    quicker = Quicker()
    calls(quicker, 100, QUIET.__getitem__)
    assert calls(quicker, 10 * SELDOM, lambda way: 3 * QUIET[way])[WIDE] > 8 * SELDOM


def test_one_slow_call_decides_nothing() -> None:
    quicker = Quicker()
    calls(quicker, 100, QUIET.__getitem__)
    quicker.took(WIDE, 100.0)
    assert calls(quicker, 10, QUIET.__getitem__)[WIDE] == 10
