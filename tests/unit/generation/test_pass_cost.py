"""What passes cost beside their rows, found out from how long they took."""

import random

import pytest

from services.generation.engine.pass_cost import FIXED_ROWS, KNOWN_AFTER, LEAST, MOST, PassCost


def taken(fixed: float, widths: tuple[int, ...], passes: int = 2000, held_up: float = 0.0) -> PassCost:
    """After passes that took as long as their rows and `fixed` more, but for some that took ten times as long."""
    draw, cost = random.Random(7), PassCost()
    for _ in range(passes):
        rows = draw.choice(widths)
        seconds = 5e-4 * (rows + fixed) * draw.uniform(0.9, 1.1)
        cost.took(seconds * (10 if draw.random() < held_up else 1), rows)
    return cost


@pytest.mark.parametrize("fixed", [4.5, 6, 8])
@pytest.mark.parametrize("held_up", [0.0, 0.1])
def test_it_is_found_whoever_holds_some_passes_up(fixed: float, held_up: float) -> None:
    assert taken(fixed, (1, 2, 8, 32), held_up=held_up).fixed_rows == pytest.approx(fixed, rel=0.3)


def test_passes_of_one_width_tell_nothing() -> None:
    assert taken(13, (8,)).fixed_rows == FIXED_ROWS
    assert taken(13, (1, 32), passes=KNOWN_AFTER).fixed_rows == FIXED_ROWS


def test_prompts_tell_nothing() -> None:
    assert taken(13, (1, 256)).fixed_rows == FIXED_ROWS


def test_it_stays_within_reason() -> None:
    assert taken(0.1, (1, 32)).fixed_rows == LEAST
    assert taken(300, (1, 32)).fixed_rows == MOST
    flat = PassCost()
    for _ in range(100):
        flat.took(1e-3, 1)
        flat.took(9e-4, 32)
    assert flat.fixed_rows == FIXED_ROWS
