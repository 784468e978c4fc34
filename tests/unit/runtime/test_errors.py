"""Errors stay short enough to travel, whatever they quote."""

import pytest

from services.runtime.errors import MOST_MESSAGE, InvalidInput, NotFound, ServiceError, Violation, shortened


@pytest.mark.parametrize("text", ["", "short", "x" * 128, "é" * 64])
def test_what_fits_stays_as_it_is(text: str) -> None:
    assert shortened(text) == text


@pytest.mark.parametrize("text", ["a" + "x" * 500 + "z", "aé" + "é" * 500 + "z", "a" + "😀" * 500 + "z"])
def test_what_does_not_fit_loses_its_middle(text: str) -> None:
    found = shortened(text)
    assert len(found.encode()) <= 128
    assert found[0] == "a" and found[-1] == "z" and "…" in found


def test_messages_are_bounded_and_end_with_the_fix() -> None:
    assert len(ServiceError("é" * 10_000).message.encode()) <= MOST_MESSAGE
    error = NotFound("model", "x" * 100_000, ["net"])
    assert error.message.endswith("not found; available: net")
    assert error.resource is not None and len(error.resource[1].encode()) <= 128
    assert InvalidInput("x", "y" * 5000 + "; fill one").violations[0].description.endswith("fill one")


def test_few_violations_are_all_told_and_of_many_the_rest_is_counted() -> None:
    few = InvalidInput.many(Violation(f"a[{i}]", "is wrong") for i in range(16))
    assert [v.field for v in few.violations] == [f"a[{i}]" for i in range(16)]
    many = InvalidInput.many(Violation(f"a[{i}]", "is wrong") for i in range(100))
    assert len(many.violations) == 17
    assert many.violations[-1].description == "and 84 more"
    assert many.message.endswith("a[15]: is wrong; and 84 more")
