"""The bound at the door, and how tenants share it once it is reached."""

import random
from contextlib import AbstractContextManager, ExitStack

import pytest

from services.runtime.admission import REMEMBERED_S, RETRY_AFTER_S, Admission
from services.runtime.errors import Overloaded


class Door:
    """An admission whose clock stands still, and what it let in."""

    def __init__(self, limit: int) -> None:
        self.now = 0.0
        self.admission = Admission(limit, clock=lambda: self.now)
        self.inside: list[tuple[str, AbstractContextManager[None]]] = []

    def enter(self, tenant: str, count: int = 1) -> str:
        """How it ended: empty, or the reason."""
        held = self.admission.admit(tenant, count)
        try:
            held.__enter__()
        except Overloaded as error:
            assert error.retry_after_s == RETRY_AFTER_S
            return error.reason
        self.inside.append((tenant, held))
        return ""

    def leave(self, tenant: str) -> None:
        place = next(place for place, (owner, _) in enumerate(self.inside) if owner == tenant)
        self.inside.pop(place)[1].__exit__(None, None, None)

    def count(self, tenant: str) -> int:
        return sum(owner == tenant for owner, _ in self.inside)


def test_a_tenant_that_is_alone_may_fill_it() -> None:
    door = Door(4)
    assert [door.enter("a") for _ in range(5)] == ["", "", "", "", "QUEUE_FULL"]
    door.leave("a")
    assert door.enter("a") == ""


def test_whoever_was_turned_away_gets_in_next() -> None:
    door = Door(4)
    for _ in range(4):
        door.enter("many")
    assert door.enter("few") == "QUEUE_FULL"
    door.leave("many")
    assert door.enter("many") == "TENANT_PART_FULL"
    assert door.enter("few") == ""
    door.leave("many")
    assert door.enter("many") == "TENANT_PART_FULL" and door.enter("few") == ""
    door.leave("many")
    assert door.enter("many") == "" and door.count("many") == door.count("few") == 2


def test_after_a_while_without_refusals_everything_may_be_filled_again() -> None:
    door = Door(4)
    for _ in range(4):
        door.enter("many")
    door.enter("few")
    door.leave("many")
    door.now += REMEMBERED_S
    assert door.enter("many") == ""


def test_the_one_who_fills_it_is_not_the_one_who_waits() -> None:
    door = Door(4)
    door.enter("few")
    for _ in range(4):
        door.enter("many")
    door.leave("few")
    assert door.enter("many") == ""


def test_many_places_at_once_need_no_part_of_that_size_but_room() -> None:
    door = Door(6)
    for _ in range(6):
        door.enter("many")
    assert door.enter("wide", 3) == "QUEUE_FULL"
    for _ in range(3):
        door.leave("many")
    assert door.enter("other") == "" and door.enter("wide", 3) == "QUEUE_FULL"
    door.leave("many")
    assert door.enter("wide", 3) == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_flood_leaves_the_others_their_part(seed: int) -> None:
    draw, door, tenants = random.Random(seed), Door(12), ("flood", "b", "c")
    waits: list[int] = []
    waiting = dict.fromkeys(tenants[1:], 0)
    for _ in range(5000):
        door.now += 0.01
        for _ in range(20):
            door.enter("flood")
        for tenant in tenants[1:]:
            if door.count(tenant) < 2 and draw.random() < 0.5:
                waiting[tenant] += 1
                if not door.enter(tenant):
                    waits.append(waiting[tenant])
                    waiting[tenant] = 0
        if door.inside:
            door.leave(draw.choice(door.inside)[0])
        assert door.admission.inside == len(door.inside) <= 12
    assert len(waits) > 500 and sum(waits) / len(waits) < 2


def with_classes() -> Admission:
    """Of eight places `a` holds five, all but one of the six that some calls may fill. The clock stands still."""
    admission = Admission(8, clock=lambda: 0.0)
    admission.hold("a", 5)
    return admission


def test_who_may_fill_less_leaves_the_rest_and_holds_nobody_above_to_a_part() -> None:
    admission = with_classes()
    assert admission.full("a", 1, 6) is None
    with admission.admit("a"):
        full = admission.full("b", 1, 6)
        assert full is not None and full.reason == "QUEUE_FULL"
        assert admission.full("a", 1, 8) is None
    full = admission.full("a", 1, 6)
    assert full is not None and full.reason == "TENANT_PART_FULL" and "part is 3" in full.why
    assert admission.full("b", 1, 6) is None


def test_who_may_fill_more_holds_those_below_to_a_part_as_well() -> None:
    admission = with_classes()
    with admission.admit("a", 3):
        assert admission.full("b", 1, 8) is not None
    assert admission.full("a", 1, 6) is not None and admission.full("a", 1, 8) is not None


def test_a_failing_call_gives_its_places_back() -> None:
    admission = Admission(2)
    with pytest.raises(ValueError), ExitStack() as stack:
        stack.enter_context(admission.admit("a", 2))
        raise ValueError
    with admission.admit("b", 2):
        assert admission.inside == 2
