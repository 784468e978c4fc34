"""Of two ways the quicker one is taken, whichever that is by now."""

from collections import Counter
from collections.abc import Callable

import pytest

from services.runtime.runners.quicker import SELDOM, Quicker


def calls(quicker: Quicker, count: int, seconds: Callable[[int], float]) -> Counter[int]:
    """How many went which way."""
    went: Counter[int] = Counter()
    for _ in range(count):
        way = quicker.way()
        quicker.took(way, seconds(way))
        went[way] += 1
    return went


@pytest.mark.parametrize("better", [0, 1])
def test_the_quicker_way_is_taken_and_the_other_tried_again_now_and_then(better: int) -> None:
    went = calls(Quicker(), 10 * SELDOM, lambda way: 1.0 + (way != better))
    assert 8 <= went[1 - better] <= 14


def test_it_changes_its_mind_when_the_machine_does() -> None:
    quicker = Quicker()
    calls(quicker, 500, lambda way: (1.0, 2.0)[way])
    assert calls(quicker, 40, lambda way: (3.0, 2.0)[way])[1] > 30  # the way in use got slower
    calls(quicker, 500, lambda way: (3.0, 2.0)[way])
    assert calls(quicker, 2 * SELDOM, lambda way: (1.0, 2.0)[way])[0] > 20  # the other one got quicker


def test_one_slow_call_decides_nothing() -> None:
    quicker = Quicker()
    calls(quicker, 100, lambda way: (1.0, 2.0)[way])
    quicker.took(0, 100.0)
    assert calls(quicker, 10, lambda way: (1.0, 2.0)[way])[0] >= 9
