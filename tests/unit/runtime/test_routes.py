"""Which version a call means: numbers, labels, none; and labels that wait for what they move to."""

import pytest

from services.runtime.routes import Routes


@pytest.fixture
def routes() -> Routes:
    found = Routes()
    found.point("net", 1, {"stable": 1, "canary": 2}, (1, 2))
    return found


@pytest.mark.parametrize(
    ("version", "number"),
    [("", 1), ("2", 2), ("7", 7), ("stable", 1), ("canary", 2), ("beta", None), ("9999999999", None), ("²", None)],
)
def test_a_number_a_label_and_none(routes: Routes, version: str, number: int | None) -> None:
    assert routes.number("net", version) == number


def test_a_model_that_does_not_answer(routes: Routes) -> None:
    routes.drop("net")
    assert routes.names() == []
    assert routes.number("net", "") is None
    assert routes.number("net", "stable") is None


def test_what_changed_is_told_with_the_new_answer_first(routes: Routes) -> None:
    assert routes.point("net", 2, {"stable": 2, "canary": 2}, (1, 2)) == [2, 1]
    assert routes.of("net").roles(2) == (True, ["canary", "stable"])
    assert routes.of("net").roles(1) == (False, [])
    assert routes.point("net", 2, {"stable": 2, "canary": 2}, (1, 2)) == []


def test_a_label_waits_for_what_it_moves_to(routes: Routes) -> None:
    assert routes.point("net", 1, {"stable": 1, "canary": 3}, (1, 2)) == []
    assert routes.number("net", "canary") == 2
    assert routes.point("net", 1, {"stable": 1, "canary": 3}, (1, 2, 3)) == [2, 3]
    assert routes.number("net", "canary") == 3


def test_a_label_with_nothing_to_stay_at_names_what_is_missing(routes: Routes) -> None:
    routes.point("net", 1, {"stable": 1, "beta": 4}, (1, 2))
    assert routes.number("net", "beta") == 4
    assert routes.number("net", "canary") is None
