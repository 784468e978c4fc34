"""What is known of how long calls take, and how it is forgotten."""

import random
from math import inf

from gateway.overload.latency import FRESH_S, KEPT, LEAST, LEAST_TAIL, REVIEW, Latencies, Recent


def test_quantiles_are_those_of_the_latest_answers() -> None:
    recent, draw = Recent(), random.Random(0)
    for _ in range(32 * REVIEW):
        recent.add(draw.uniform(5, 6), 0)
    for number in draw.sample(range(KEPT), KEPT):
        recent.add(number / KEPT, 0)
    assert recent.p50 is not None and recent.p95 is not None
    assert abs(recent.p50 - 0.5) < 0.02 and abs(recent.p95 - 0.95) < 0.02


def test_a_few_answers_are_no_quantile() -> None:
    recent = Recent()
    for number in range(1, LEAST_TAIL):
        recent.add(1, 0)
        assert recent.p95 is None and recent.usual(0) == (number >= LEAST)


def test_what_was_usual_long_ago_is_not_usual_now() -> None:
    recent = Recent()
    for _ in range(LEAST):
        recent.add(1, 50)
    assert recent.usual(50) == recent.tail(50) == 1
    assert recent.usual(50 + 2 * FRESH_S) == recent.tail(50 + 2 * FRESH_S) == 0


def test_the_least_lasts_for_an_age_and_no_longer() -> None:
    recent = Recent()
    assert recent.least == inf
    recent.add(1, 0)
    recent.add(2, 0)
    recent.turn()
    assert recent.least == 1
    recent.add(3, 0)
    recent.turn()
    assert recent.least == 3


def test_kinds_are_methods_and_sizes() -> None:
    latencies = Latencies()
    one = latencies.of("/a", 1000)
    assert latencies.of("/a", 1001) is one
    assert latencies.of("/b", 1000) is not one and latencies.of("/a", 16_000) is not one
    one.add(1, 0)
    latencies.turn()
    latencies.turn()
    assert one.least == inf
