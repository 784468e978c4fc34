"""Which versions should be loaded: newest, labelled and what an administrator chose."""

import pytest

from services.runtime.store.desired import Choice
from services.runtime.wish import Wish, wish


@pytest.mark.parametrize(
    ("labels", "choice", "unversioned", "beside"),
    [
        ({}, None, 3, ()),
        ({"stable": 1}, None, 1, (3,)),
        ({"stable": 3}, None, 3, ()),
        ({"canary": 2}, None, 3, (2,)),
        ({"stable": 1, "canary": 2}, None, 1, (3, 2)),
        ({"stable": 7, "canary": 2}, None, 3, (2,)),
        ({}, Choice(1, 3), 1, ()),
        ({}, Choice(1, 2), 3, ()),
        ({}, Choice(7, 9), 3, ()),
        ({"stable": 3, "canary": 2}, Choice(1, 3), 1, (3, 2)),
    ],
)
def test_who_answers_and_who_stays_beside(
    labels: dict[str, int], choice: Choice | None, unversioned: int, beside: tuple[int, ...]
) -> None:
    found = wish([1, 2, 3], labels, choice)
    assert (found.unversioned, found.beside) == (unversioned, beside)
    assert found.others == tuple(version for version in (3, 2, 1) if version != unversioned)


def test_an_unloaded_model_keeps_nothing_until_something_newer_comes() -> None:
    assert wish([1, 2], {"stable": 1}, Choice(None, 2)) == Wish()
    assert wish([1, 2, 3], {"stable": 1}, Choice(None, 2)).unversioned == 1
