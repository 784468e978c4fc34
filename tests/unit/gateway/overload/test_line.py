"""Who comes first, and who is given up first."""

import random

from gateway.overload.line import Line, Waiting
from gateway.overload.priority import Priority

CRITICAL, DEFAULT, BATCH = Priority


def joined(*given: tuple[str, Priority, str, float | None]) -> Line[str]:
    line: Line[str] = Line()
    for one in given:
        line.join(*one)
    return line


def served(line: Line[str]) -> str:
    found = ""
    while (one := line.first()) is not None:
        line.take(one)
        found += one.what
    return found


def test_classes_first_then_the_earliest_deadline_then_arrival() -> None:
    line = joined(
        ("e", BATCH, "", 1.0),
        ("d", DEFAULT, "", None),
        ("c", DEFAULT, "", 9.0),
        ("b", DEFAULT, "", 2.0),
        ("a", CRITICAL, "", None),
    )
    assert served(line) == "abcde"


def test_tenants_take_turns() -> None:
    line = joined(*((one, DEFAULT, tenant, None) for one, tenant in zip("123456ab", "ggggggxy", strict=True)))
    assert served(line) == "1ab23456"


def test_the_last_is_of_the_lowest_class_and_of_the_tenant_with_most() -> None:
    line = joined(
        ("a", CRITICAL, "g", None), ("b", DEFAULT, "g", 1.0), ("c", DEFAULT, "x", None), ("d", DEFAULT, "g", 2.0)
    )
    given_up = ""
    while (one := line.last()) is not None:
        line.leave(one)
        given_up += one.what
    assert given_up == "dbca" and not line


def test_ahead_is_what_really_comes_before() -> None:
    """Against the order that the line then serves, over many random lines."""
    draw = random.Random(0)
    for _ in range(300):
        line: Line[str] = Line()
        for _ in range(draw.randrange(12)):
            line.join("-", draw.choice(list(Priority)), draw.choice("abc"), draw.choice([None, 1.0, 2.0, 3.0]))
        mine = draw.choice(list(Priority)), draw.choice("abc"), draw.choice([None, 1.5, 2.5])
        told = line.ahead(*mine)
        line.join("X", *mine)
        # A tenant that comes new takes its turn behind the others; one that waits may be served a turn earlier.
        assert 0 <= told - served(line).index("X") <= 2


def test_who_leaves_twice_or_was_taken_changes_nothing() -> None:
    line = joined(("a", DEFAULT, "", None), ("b", DEFAULT, "", None))
    first = line.first()
    assert isinstance(first, Waiting)
    line.take(first)
    line.leave(first)
    assert len(line) == 1 and served(line) == "b" and not line.before(BATCH)
