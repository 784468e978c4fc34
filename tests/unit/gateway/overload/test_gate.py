"""Who gets in, who waits, who is refused, and that no place is ever lost."""

import asyncio
import random
import time
from contextlib import suppress

import pytest

from gateway.overload.bounds import Bounds
from gateway.overload.gate import Gate, Pass
from gateway.overload.latency import LEAST, LEAST_TAIL
from gateway.overload.priority import HEADER, Priority
from gateway.overload.refusals import OUT_OF_TIME, OVERLOADED
from services.runtime.context import RequestContext
from services.runtime.errors import DeadlinePassed, InvalidInput, Overloaded
from services.runtime.identity.caller import Caller
from services.runtime.identity.policy import parse

SHORT, LONG, FREE = (
    "/maas.vision.v1.VisionService/Classify",
    "/maas.vision.v1.VisionService/Explain",
    "/maas.model.x/L",
)


def gate(places: int = 10, **more: object) -> Gate:
    """A limit that does not move."""
    return Gate("vision", Bounds(floor=places, ceiling=places, **more))  # type: ignore[arg-type]


def caller(priority: str = "default", left_s: float | None = None, tenant: str = "") -> RequestContext:
    deadline = None if left_s is None else time.monotonic() + left_s
    return RequestContext(deadline=deadline, metadata={HEADER: priority}, caller=Caller(tenant=tenant))


async def entered(one: Gate, count: int, priority: str = "default") -> list[Pass]:
    return [await one.enter(SHORT, 100, caller(priority)) for _ in range(count)]


async def waiting(one: Gate, *callers: RequestContext) -> list["asyncio.Task[Pass]"]:
    tasks = [asyncio.create_task(one.enter(SHORT, 100, context)) for context in callers]
    await asyncio.sleep(0)
    return tasks


def taught(one: Gate, seconds: float, count: int = 2 * LEAST) -> Gate:
    """It has seen so many answers."""
    for _ in range(count):
        inside = Pass(one, one.way(SHORT), one.kind(SHORT, 100))
        one.answered(inside, seconds)
    return one


async def test_low_classes_leave_places_to_those_above() -> None:
    one = gate(10)
    inside = [
        len(await entered(one, most, name)) for most, name in ((8, "batch"), (1, "default"), (1, "critical"))
    ]
    assert sum(inside) == one.in_flight == 10
    for priority in Priority:
        (task,) = await waiting(one, caller(priority.name.lower()))
        assert not task.done()
    assert one.queued == 3


async def test_a_class_that_is_not_granted_is_the_usual_one_and_its_caller_is_told() -> None:
    one, rules = gate(4), '[[allow]]\nmethods = ["maas.vision.*/Classify"]\npriorities = ["critical"]'
    granted, denied = caller("critical"), caller("critical")
    granted.rights, denied.rights = parse(rules).of(granted.caller), parse("").of(denied.caller)
    await entered(one, 3)
    (waits,) = await waiting(one, denied)
    await one.enter(SHORT, 100, granted)
    assert (one.in_flight, waits.done(), one.lowered) == (4, False, 1)
    assert (granted.trailing, denied.trailing) == ([], [(HEADER, "default")])
    for name in ("default", "batch"):
        plain = caller(name)
        plain.rights = denied.rights
        await waiting(one, plain)
        assert not plain.trailing
    assert one.lowered == 1


async def test_a_place_goes_to_the_highest_class_that_waits() -> None:
    one = gate(4)
    inside = await entered(one, 3)
    batch, plain = await waiting(one, caller("batch"), caller())
    critical = await one.enter(SHORT, 100, caller("critical"))
    one.leave(inside[0])
    one.leave(inside[1])
    await asyncio.sleep(0)
    assert plain.done() and not batch.done()
    one.leave(critical)
    one.leave(inside[2])
    assert await batch and one.in_flight == 2 and not one.queued


async def test_nobody_overtakes_his_own_class() -> None:
    one = gate(4)
    inside = await entered(one, 3)
    first, second = await waiting(one, caller(), caller())
    one.leave(inside[0])
    (third,) = await waiting(one, caller())
    assert first.done() and not second.done() and not third.done()


async def test_who_cannot_be_served_in_time_is_told_at_once() -> None:
    one = taught(gate(10), 0.5)
    with pytest.raises(DeadlinePassed) as refused:
        await one.enter(SHORT, 100, caller(left_s=0.4))
    assert refused.value.reason == OUT_OF_TIME and one.refusals.counts[Priority.DEFAULT, OUT_OF_TIME] == 1
    assert await one.enter(SHORT, 100, caller(left_s=0.7)) and await one.enter(SHORT, 100, caller())


async def test_what_is_known_of_one_size_says_nothing_of_another() -> None:
    assert await taught(gate(10), 0.5).enter(SHORT, 100_000, caller(left_s=0.1))


async def test_who_would_wait_too_long_is_refused_and_told_when_to_come_back() -> None:
    one = taught(gate(4, queue_wait_s=1.0), 1.0)
    inside = await entered(one, 3)
    waits = await waiting(one, *(caller() for _ in range(5)))
    ends = [task.exception() for task in waits if task.done()]
    assert len(ends) == 2 and all(isinstance(end, Overloaded) for end in ends)
    told = ends[0]
    assert isinstance(told, Overloaded) and told.reason == OVERLOADED and 1 <= (told.retry_after_s or 0) <= 2
    for place in inside:
        one.leave(place)
    assert len([await task for task in waits[:3]]) == 3


async def test_a_full_line_gives_up_the_lowest_class_and_the_greediest_tenant() -> None:
    one = gate(4)
    await entered(one, 3)
    greedy = await waiting(one, *(caller(tenant="greedy") for _ in range(4)))
    (other,) = await waiting(one, caller(tenant="other"))
    (critical,) = await waiting(one, caller("critical"))
    (second,) = await waiting(one, caller("critical"))
    await asyncio.sleep(0)
    # The first critical call took the place that was kept for it; one greedy call gave way each time.
    assert [task.done() for task in greedy] == [False, False, True, True]
    assert critical.done() and not second.done() and not other.done()
    assert isinstance(greedy[-1].exception(), Overloaded)


async def test_long_calls_have_a_number_and_latency_means_nothing_there() -> None:
    one = gate(4, most_long=10)
    inside = [await one.enter(LONG, 100, caller()) for _ in range(9)]
    with pytest.raises(Overloaded):
        await one.enter(LONG, 100, caller())
    assert await one.enter(LONG, 100, caller("critical"))
    one.answered(inside[0], 100.0)
    one.leave(inside[0])
    assert one.long == 9 and one.in_flight == 0 and one.limit.calls == 4


async def test_what_is_asked_of_a_service_about_itself_is_never_held_up() -> None:
    one = gate(1, most_long=1)
    await entered(one, 1)
    await one.enter(LONG, 100, caller())
    for _ in range(100):
        assert await one.enter(FREE, 100, caller("batch"))
    assert one.in_flight == 1 and not one.queued


async def test_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="critical, default, batch"):
        await gate().enter(SHORT, 100, caller("urgent"))


async def test_switched_off_it_lets_all_in() -> None:
    one = taught(gate(1, shed=False), 9.0)
    assert len([await one.enter(SHORT, 100, caller("batch", left_s=1)) for _ in range(100)]) == 100


async def test_a_deadline_that_passed_in_the_line_ends_there() -> None:
    one = gate(1)
    (inside,) = await entered(one, 1)
    (late,) = await waiting(one, caller(left_s=0.001))
    await asyncio.sleep(0.01)
    one.leave(inside)
    with pytest.raises(DeadlinePassed):
        await late
    assert one.in_flight == 0


async def test_no_place_goes_to_who_would_be_answered_too_late() -> None:
    """The deadline has not passed when the place comes free, but an answer takes longer than what is left."""
    one = taught(gate(2), 0.03, 2 * LEAST_TAIL)
    (inside,) = await entered(one, 1)
    hasty, patient = await waiting(one, caller(left_s=0.08), caller(left_s=9))
    assert one.queued == 2
    await asyncio.sleep(0.06)
    one.leave(inside)
    with pytest.raises(DeadlinePassed, match="too little is left"):
        await hasty
    assert await patient and one.in_flight == 1


async def test_who_leaves_the_line_is_gone_from_it() -> None:
    one = gate(1)
    await entered(one, 1)
    waits = await waiting(one, caller("batch"), caller("critical"))
    assert one.queued == 1  # the line is as long as the limit
    for task in waits:
        task.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert (one.in_flight, one.queued) == (1, 0)


async def test_a_service_that_never_answered_in_time_gets_less() -> None:
    one = Gate("vision", Bounds(floor=4))
    before = one.limit.calls
    for _ in range(8 * before):
        one.late(Pass(one, one.way(SHORT), one.kind(SHORT, 100)), 1.0)
    assert one.limit.calls <= 6 < before


async def test_no_place_is_lost_whatever_callers_do() -> None:
    """Random calls of all classes; many are cancelled while they wait, are inside, or in the moment between."""
    one, draw = gate(4), random.Random(3)

    async def call() -> None:
        context = caller(draw.choice(["critical", "default", "batch"]), tenant=draw.choice("abc"))
        with suppress(Overloaded), await one.enter(SHORT, 100, context):
            assert 0 < one.in_flight <= 4
            await asyncio.sleep(0)

    for _ in range(200):
        tasks = [asyncio.create_task(call()) for _ in range(draw.randrange(1, 9))]
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        for task in draw.sample(tasks, len(tasks) // 2):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (one.in_flight, one.queued) == (0, 0)
