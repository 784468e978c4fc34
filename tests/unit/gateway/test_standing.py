"""Who is left out, for how long, and how it comes back."""

import pytest

from gateway.standing import EASED_S, FAULTS_IN_A_ROW, GENTLE_S, LEAST_SHARE, LONGEST_OUT_S, OUT_S, Standing
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standing(clock: Clock) -> Standing:
    return Standing(clock)


def fail(standing: Standing, times: int = FAULTS_IN_A_ROW) -> None:
    for _ in range(times):
        standing.fault()


def test_faults_in_a_row_leave_it_out_for_a_while(standing: Standing, clock: Clock) -> None:
    fail(standing, FAULTS_IN_A_ROW - 1)
    assert not standing.out
    fail(standing, 1)
    assert standing.out
    clock.now += OUT_S
    assert not standing.out


def test_an_answer_ends_the_row(standing: Standing) -> None:
    for _ in range(3):
        fail(standing, FAULTS_IN_A_ROW - 1)
        standing.good()
    assert not standing.out


def test_calls_still_under_way_do_not_lengthen_it(standing: Standing, clock: Clock) -> None:
    fail(standing, 20 * FAULTS_IN_A_ROW)
    clock.now += OUT_S
    assert not standing.out


def test_each_time_is_longer_up_to_a_bound_until_it_behaved(standing: Standing, clock: Clock) -> None:
    waits = []
    for _ in range(9):
        fail(standing)
        began = clock.now
        while standing.out:
            clock.now += 1
        waits.append(clock.now - began)
    assert waits == [min(OUT_S * times, LONGEST_OUT_S) for times in range(1, 10)]
    clock.now += LONGEST_OUT_S + 1
    fail(standing)
    clock.now += OUT_S
    assert not standing.out


def test_it_comes_back_gently(standing: Standing, clock: Clock) -> None:
    assert standing.share == 1
    fail(standing)
    clock.now += OUT_S
    shares = [standing.share]
    for _ in range(10):
        clock.now += GENTLE_S / 10
        shares.append(standing.share)
    assert shares[0] == LEAST_SHARE and shares == sorted(shares) and shares[-1] == 1


def test_a_process_that_begins_anew_answers_for_itself_alone(standing: Standing, clock: Clock) -> None:
    fail(standing)
    standing.begin()
    assert not standing.out and standing.share == LEAST_SHARE
    fail(standing, FAULTS_IN_A_ROW - 1)
    assert not standing.out


def test_one_that_has_too_much_to_do_is_spared_for_a_moment_and_not_left_out(
    standing: Standing, clock: Clock
) -> None:
    fail(standing, FAULTS_IN_A_ROW - 1)
    for _ in range(100):
        standing.ease()
    assert not standing.out and standing.share == LEAST_SHARE
    clock.now += EASED_S
    assert standing.share == 1
    standing.ease(9)
    standing.ease(1)
    clock.now += 5
    assert standing.share == LEAST_SHARE
    standing.begin()
    clock.now += GENTLE_S
    assert standing.share == 1
