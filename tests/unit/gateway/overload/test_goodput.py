"""What is answered in time beyond saturation, by a gate before a simulated service, in simulated time."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from gateway.overload.bounds import Bounds
from gateway.overload.gate import Gate
from gateway.overload.priority import HEADER
from services.runtime.context import RequestContext
from services.runtime.errors import DeadlinePassed, Overloaded
from services.runtime.identity.caller import Caller
from tests.unit.gateway.overload.virtual import VirtualLoop, run

PATH = "/maas.vision.v1.VisionService/Classify"
LOAD_S = 15.0


@dataclass
class Service:
    """A batching service, as ours are: the device takes what waits, `fixed_s` a batch and `each_s` a call.

    Who waits while its deadline passes is skipped, as there.
    """

    fixed_s: float
    each_s: float
    most: int
    waiting: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)
    busy: bool = False

    @property
    def capacity(self) -> float:
        """Calls a second."""
        return self.most / (self.fixed_s + self.most * self.each_s)

    async def answer(self, deadline: float) -> None:
        """Raises TimeoutError at the deadline."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self.waiting.append((deadline, done))
        if not self.busy:
            self.busy = True
            loop.call_soon(self._cut)
        async with asyncio.timeout_at(deadline):
            await done

    def _cut(self) -> None:
        loop = asyncio.get_running_loop()
        alive = [one for deadline, one in self.waiting if deadline > loop.time() and not one.done()]
        batch, rest = alive[: self.most], set(alive[self.most :])
        self.waiting = [one for one in self.waiting if one[1] in rest]
        self.busy = bool(batch)
        if batch:
            loop.call_later(self.fixed_s + len(batch) * self.each_s, self._end, batch)

    def _end(self, batch: list["asyncio.Future[None]"]) -> None:
        for one in batch:
            if not one.done():
                one.set_result(None)
        self._cut()


@dataclass
class Load:
    """Arrivals at random, `rate` a second, that wait for nothing; what became of those after the warm-up."""

    gate: Gate
    service: Service
    rate: float
    deadline_s: float = 1.0
    priority: str = "default"
    tenant: str = ""
    good: int = 0
    late: int = 0
    refused: int = 0
    took: list[float] = field(default_factory=list)

    async def offer(self, seconds: float, warm_up_s: float = 5.0) -> None:
        loop, gap = asyncio.get_running_loop(), random.Random(self.rate)
        begun = loop.time() + warm_up_s
        async with asyncio.TaskGroup() as calls:
            while loop.time() < begun + seconds:
                await asyncio.sleep(gap.expovariate(self.rate))
                calls.create_task(self._call(loop.time(), loop.time() >= begun))

    async def _call(self, began: float, counts: bool) -> None:
        caller = Caller(tenant=self.tenant)
        context = RequestContext(deadline=began + self.deadline_s, metadata={HEADER: self.priority}, caller=caller)
        loop, end = asyncio.get_running_loop(), Counter[str]()
        try:
            async with asyncio.timeout_at(began + self.deadline_s):
                with await self.gate.enter(PATH, 1000, context) as inside:
                    sent = loop.time()
                    try:
                        await self.service.answer(began + self.deadline_s)
                    except (TimeoutError, asyncio.CancelledError):
                        self.gate.late(inside, loop.time() - sent)
                        raise
                    self.gate.answered(inside, loop.time() - sent)
            end["good"] += 1
        except TimeoutError:
            end["late"] += 1
        except (Overloaded, DeadlinePassed):
            end["refused"] += 1
        if counts:
            self.good += end["good"]
            self.late += end["late"]
            self.refused += end["refused"]
            self.took += [loop.time() - began] * end["good"]

    @property
    def p99_s(self) -> float:
        return sorted(self.took)[len(self.took) * 99 // 100]


# Pictures: the device is busy with one at a time. Rows: they batch well.
SERVICES = {"pictures": (0.003, 0.017, 16), "rows": (0.04, 0.008, 16)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualLoop:
    loop = VirtualLoop()
    monkeypatch.setattr(time, "monotonic", loop.time)
    return loop


async def together(*loads: Load) -> None:
    await asyncio.gather(*(load.offer(LOAD_S) for load in loads))


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0])
def test_goodput_is_flat_beyond_saturation(clock: VirtualLoop, kind: str, factor: float) -> None:
    service = Service(*SERVICES[kind])
    load = Load(Gate("x", Bounds(), clock.time), service, factor * service.capacity)
    run(clock, load.offer(LOAD_S))
    # Of what the largest batches, always full, would bring.
    assert load.good / LOAD_S >= 0.88 * service.capacity and load.late <= 0.01 * load.good


def test_without_shedding_it_falls(clock: VirtualLoop) -> None:
    service = Service(*SERVICES["pictures"])
    load = Load(Gate("x", Bounds(shed=False), clock.time), service, 2 * service.capacity)
    run(clock, load.offer(LOAD_S))
    assert load.good / LOAD_S < 0.1 * service.capacity


def test_of_the_classes_the_lowest_is_shed_first(clock: VirtualLoop) -> None:
    service = Service(*SERVICES["pictures"])
    gate, rate = Gate("x", Bounds(), clock.time), service.capacity
    critical = Load(gate, service, 0.3 * rate, priority="critical")
    default = Load(gate, service, 0.5 * rate, priority="default")
    batch = Load(gate, service, 2 * rate, priority="batch")
    run(clock, together(critical, default, batch))
    assert critical.refused == critical.late == 0
    assert default.refused + default.late <= 0.05 * default.good < batch.refused
    assert critical.p99_s < default.p99_s < batch.p99_s


def test_a_greedy_tenant_waits_behind_itself(clock: VirtualLoop) -> None:
    service = Service(*SERVICES["pictures"])
    gate, rate = Gate("x", Bounds(), clock.time), service.capacity
    greedy = Load(gate, service, 4 * rate, tenant="greedy")
    others = [Load(gate, service, 0.05 * rate + place * 1e-3, tenant=f"t{place}") for place in range(10)]
    run(clock, together(greedy, *others))
    assert sum(one.refused + one.late for one in others) == 0
    assert max(one.p99_s for one in others) < greedy.p99_s


def test_deadlines_that_cannot_be_met_cost_the_service_nothing(clock: VirtualLoop) -> None:
    """Half of the callers give less time than an answer takes: the others get all that can be had."""
    service = Service(*SERVICES["rows"])
    gate = Gate("x", Bounds(), clock.time)
    hasty = Load(gate, service, 2 * service.capacity, deadline_s=0.03)
    patient = Load(gate, service, 2 * service.capacity)
    run(clock, together(hasty, patient))
    assert patient.good / LOAD_S >= 0.85 * service.capacity and hasty.good == 0
