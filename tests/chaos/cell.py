"""One fault on one process under load, and what it cost."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.chaos.callers import Callers
from tests.chaos.faults import FAULTS
from tests.chaos.server import START_S, Server
from tests.chaos.stack import Stack
from tests.chaos.tally import ENDINGS, Tally

WORKERS = 8
AROUND_S = 1.5  # of load before and after
# A process that starts reads its models first; a link that is sound again is used at once.
RECOVERY_S = {"kill": 60.0, "terminate": 60.0, "restart": 60.0, "stop": 15.0, "cut": 15.0, "delay": 15.0}
HEAD = f"{'fault':9} {'target':14} {'sent':>6}{''.join(f'{one:>10}' for one in ENDINGS)}" + (
    f"{'resumed':>9}{'longest':>9}{'recovery':>9}"
)


@dataclass(frozen=True)
class Row:
    """Seconds."""

    fault: str
    target: str
    tally: Tally
    recovery_s: float

    def __str__(self) -> str:
        tally, ends = self.tally, "".join(f"{self.tally.count(one):10}" for one in ENDINGS)
        times = f"{tally.resumed:9}{tally.longest_s:9.1f}{self.recovery_s:9.1f}"
        return f"{self.fault:9} {self.target:14} {sum(tally.sent.values()):6}{ends}{times}"


@asynccontextmanager
async def load(callers: Callers, workers: int = WORKERS) -> AsyncIterator[Tally]:
    """Callers at work; at the end each has ended its last call."""
    callers.tally = Tally()
    over = asyncio.Event()
    running = [asyncio.create_task(callers.work(over.is_set)) for _ in range(workers)]
    try:
        yield callers.tally
    finally:
        over.set()
        await asyncio.gather(*running)


async def cell(
    stack: Stack, callers: Callers, fault: str, target: Server, held_s: float, workers: int = WORKERS
) -> Row:
    """Strikes in the middle of the load and waits until the process takes calls again."""
    async with load(callers, workers) as tally:
        await asyncio.sleep(AROUND_S)
        await FAULTS[fault](target, held_s)
        healed = time.monotonic()
        await recovered(stack, target)
        recovery_s = time.monotonic() - healed
        await asyncio.sleep(AROUND_S)
    await at_rest(stack)
    return Row(fault, target.name, tally, recovery_s)


async def recovered(stack: Stack, target: Server) -> None:
    """Returns once every gateway uses it, and calls reach it again."""
    async with asyncio.timeout(START_S):
        await target.serving()
        if target is stack.redis:
            while any([(await stack.status(one)).cache.redis != "connected" for one in stack.gateways]):
                await asyncio.sleep(0.05)
            return
        begun = await target.begun()
        while await target.begun() == begun or not await _trusted(stack, target):
            await asyncio.sleep(0.05)


async def _trusted(stack: Stack, target: Server) -> bool:
    told = [one for gateway in stack.gateways for one in (await stack.status(gateway)).backends]
    return all(one.health == "SERVING" for one in told if one.address == target.link.address)


async def at_rest(stack: Stack) -> None:
    """Returns once every process ended each call it began."""
    async with asyncio.timeout(START_S):
        for one in stack:
            while left := await one.unended():
                await asyncio.sleep(0.1)
                assert left >= 0


def sound(row: Row) -> None:
    """What a fault may cost: time, and streams that went on."""
    tally = row.tally
    assert not tally.trouble, "\n".join([HEAD, str(row), *tally.trouble[:20]])
    assert tally.adds_up() and tally.count("answered") > 0
    assert row.recovery_s < RECOVERY_S[row.fault], f"{HEAD}\n{row}"
