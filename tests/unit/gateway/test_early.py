"""When an answer is computed anew: never far from its end, surely at it, and in between as XFetch says."""

import math
import random

import pytest

from gateway.early import REACH, due, may_be_due
from gateway.entry import Entry

ENTRY = Entry(b"", 0.0, 1000.0, took_s=2.0)


def test_far_from_the_end_chance_is_not_asked():
    def asked() -> float:
        raise AssertionError

    assert not due(ENTRY, 1000 - REACH * 2.0, asked)
    assert not may_be_due(Entry(b"", 0.0, 1000.0), 999.999)


def test_at_the_end_it_is_due():
    assert due(ENTRY, 1000.0, lambda: 1e-12)


@pytest.mark.parametrize("left_s", [1.0, 2.0, 5.0])
def test_the_chance_falls_off_exponentially_with_the_time_left(left_s: float):
    chance, count = random.Random(3), 20_000
    begun = sum(due(ENTRY, 1000.0 - left_s, chance.random) for _ in range(count))
    expected = math.exp(-left_s / ENTRY.took_s)
    assert begun / count == pytest.approx(expected, abs=4 * math.sqrt(expected / count))
