"""Further tries are a share of the calls."""

from gateway.retry_budget import RetryBudget


def test_when_every_call_fails_the_further_tries_are_a_share_of_them() -> None:
    budget, tries = RetryBudget(share=0.25, most=8), 0
    for _ in range(400):
        budget.earn()
        tries += budget.spend()
    assert tries == 8 + 100 - 1  # the first call finds it full


def test_a_burst_is_covered_and_then_earned_again() -> None:
    budget = RetryBudget(share=0.5, most=4)
    assert [budget.spend() for _ in range(6)] == [True] * 4 + [False] * 2
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


def test_what_is_spare_leaves_half_to_calls_that_failed() -> None:
    budget = RetryBudget(share=0.5, most=8)
    assert [budget.spare() for _ in range(6)] == [True] * 4 + [False] * 2
    assert [budget.spend() for _ in range(6)] == [True] * 4 + [False] * 2
