"""How tenants share the places of streams, generations and explanations once these are short."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.overload.bounds import Bounds
from gateway.overload.gate import Gate, Pass
from gateway.overload.priority import HEADER, Priority
from gateway.overload.refusals import OVERLOADED
from services.runtime.admission import REMEMBERED_S
from services.runtime.context import RequestContext
from services.runtime.errors import Overloaded
from services.runtime.identity.caller import Caller

SESSION = "/maas.sequence.v1.SequenceService/RunSession"
# Of twenty places the usual class may have 18, batch 15.
MOST, USUAL, BATCH = 20, 18, 15


class Streams:
    """A gate whose clock stands still, and what is inside."""

    def __init__(self, shed: bool = True) -> None:
        self.now = 0.0
        self.gate = Gate("sequence", Bounds(most_long=MOST, shed=shed), lambda: self.now)
        self.inside: dict[str, list[Pass]] = {}

    async def begin(self, tenant: str, count: int = 1, priority: str = "default") -> int:
        """How many of so many got in."""
        return sum([await self._one(tenant, priority) for _ in range(count)])

    def end(self, tenant: str, count: int = 1) -> None:
        for _ in range(count):
            self.inside[tenant].pop().__exit__()

    async def _one(self, tenant: str, priority: str) -> bool:
        context = RequestContext(metadata={HEADER: priority}, caller=Caller(tenant=tenant))
        try:
            place = await self.gate.enter(SESSION, 0, context)
        except Overloaded as error:
            assert (error.reason, error.retry_after_s) == (OVERLOADED, 1.0)
            assert error.metadata == {"service": "sequence", "priority": priority}
            return False
        self.inside.setdefault(tenant, []).append(place)
        return True


async def test_a_tenant_that_is_alone_keeps_all_places() -> None:
    streams = Streams()
    assert await streams.begin("many", MOST) == USUAL
    streams.end("many", 3)
    assert await streams.begin("many", MOST) == 3 and streams.gate.long == USUAL


async def test_whoever_was_turned_away_comes_before_who_has_more_than_a_part() -> None:
    streams = Streams()
    assert await streams.begin("many", USUAL) == USUAL and not await streams.begin("few")
    streams.end("many")
    assert not await streams.begin("many") and await streams.begin("few")
    assert streams.gate.refusals.counts == {(Priority.DEFAULT, OVERLOADED): 2}
    streams.now += REMEMBERED_S
    streams.end("many")
    assert await streams.begin("many")


async def test_two_tenants_have_half_each() -> None:
    streams = Streams()
    await streams.begin("many", USUAL)
    for _ in range(USUAL):
        await streams.begin("few")
        streams.end("many")
        await streams.begin("many")
        await streams.begin("few")
    assert {tenant: len(inside) for tenant, inside in streams.inside.items()} == {"many": 9, "few": 9}


async def test_three_tenants_have_a_third_each() -> None:
    streams = Streams()
    await streams.begin("many", USUAL)
    for _ in range(USUAL):
        for tenant in ("few", "other"):
            await streams.begin(tenant)
        streams.end(max(streams.inside, key=lambda one: len(streams.inside[one])))
        for tenant in ("many", "few", "other"):
            await streams.begin(tenant)
    assert {tenant: len(inside) for tenant, inside in streams.inside.items()} == dict.fromkeys(
        ("many", "few", "other"), 6
    )


async def test_priorities_hold_whoever_asks() -> None:
    streams = Streams()
    assert await streams.begin("many", MOST, "batch") == BATCH and not await streams.begin("few", 1, "batch")
    # Whom a lower class turned away holds nobody above to a part, and gets none of what is kept for those.
    assert await streams.begin("many", MOST) == USUAL - BATCH and not await streams.begin("few", 1, "batch")
    assert not await streams.begin("few")
    assert await streams.begin("many", 1, "critical") and await streams.begin("few", 1, "critical")
    assert streams.gate.long == MOST
    streams.end("many", MOST - BATCH)
    assert not await streams.begin("many", 1, "batch") and not await streams.begin("few", 1, "batch")
    assert not await streams.begin("many") and await streams.begin("few")


async def _returns() -> None:
    pass


async def _fails() -> None:
    raise ValueError


@pytest.mark.parametrize("behaviour", [_returns, _fails, asyncio.Event().wait])
async def test_a_place_is_given_back_once_however_a_call_ends(behaviour: Callable[[], Awaitable[object]]) -> None:
    streams = Streams()
    await streams.begin("many", USUAL - 1)

    async def call() -> None:
        with await streams.gate.enter(SESSION, 0, RequestContext(caller=Caller(tenant="few"))):
            assert streams.gate.long == USUAL
            await behaviour()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert streams.gate.long == USUAL - 1
    # `few` counts no more where others' parts are made.
    assert await streams.begin("many") and not await streams.begin("other")
    streams.end("many", USUAL // 2 + 1)
    assert await streams.begin("many", MOST) == 1


async def test_switched_off_nobody_is_refused() -> None:
    streams = Streams(shed=False)
    assert await streams.begin("many", 2 * MOST) == 2 * MOST and await streams.begin("few")
    streams.end("many", 2 * MOST)
    assert streams.gate.long == 1
