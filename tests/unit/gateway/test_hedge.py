"""When a second replica is asked, for what, at whose cost, and what the metrics and the trace tell of it."""

import asyncio
from dataclasses import dataclass, field
from unittest.mock import Mock

import pytest
from grpc import StatusCode

from gateway.backends import SERVING, Backend, Replica
from gateway.hedge import tried_at
from gateway.overload.bounds import Bounds
from gateway.overload.latency import LEAST_TAIL
from gateway.overload.report import OverloadMetrics
from gateway.retry_budget import MOST
from gateway.traced import asking
from services.runtime.context import RequestContext, enter
from services.runtime.metrics import Metrics
from services.runtime.tracing.span import Kind, Span
from services.runtime.tracing.tracer import STATUS
from tests.unit.gateway.overload.virtual import VirtualLoop, run

EMBED = "/maas.vision.v1.VisionService/Embed"
SIZE = 10
P95, LONG, SOON = 0.25, 60.0, 0.125


@dataclass
class Scene:
    """Two replicas, the first of which is asked first; `takes`: seconds of each. Time is virtual."""

    takes: tuple[float, float] = (LONG, SOON)
    path: str = EMBED
    bounds: Bounds = field(default_factory=Bounds)
    loop: VirtualLoop = field(default_factory=VirtualLoop)

    def __post_init__(self) -> None:
        self.backend = Backend("vision", bounds=self.bounds)
        self.backend.consist_of([Replica(name, Mock(), SERVING) for name in ("first", "second")])
        self.kept: list[Span] = []
        self.sent: dict[str, float] = {}
        self.left: list[str] = []

    def known(self) -> "Scene":
        """What such calls take is known: its 95th percentile is P95."""
        kind = self.backend.gate.kind(self.path, SIZE)
        for _ in range(LEAST_TAIL):
            kind.add(P95, 0.0)
        return self

    async def send(self, replica: Replica) -> str:
        with asking(self.path, replica.address):
            self.sent[replica.address] = self.loop.time() - 1000.0
            try:
                await asyncio.sleep(self.takes[replica.address == "second"])
            except asyncio.CancelledError:
                self.left.append(replica.address)
                raise
            return replica.address

    async def call(self) -> str:
        span = Span("call", Kind.SERVER, "1" * 32, "2" * 16, "", self.kept.append)
        context = RequestContext(self.path, "r", span=span)
        enter(context)
        with await self.backend.gate.enter(self.path, SIZE, context) as inside:
            first = self.backend.pick()
            answer = await tried_at(self.backend, first, [first], inside, self.send)
        span.end()
        await asyncio.sleep(0)
        return answer

    def answer(self) -> str:
        return run(self.loop, self.call())

    def asked(self) -> list[str]:
        """Which replicas, by the end of a call."""
        self.answer()
        return list(self.sent)


def test_a_copy_is_sent_after_the_95th_percentile_and_the_loser_is_cancelled() -> None:
    scene = Scene().known()
    assert scene.answer() == "second"
    assert scene.sent == {"first": 0.0, "second": P95}
    assert scene.left == ["first"]
    gate = scene.backend.gate
    assert (gate.hedges, gate.hedges_won, gate.in_flight) == (1, 1, 0)


def test_the_first_may_answer_meanwhile_and_then_the_copy_is_cancelled() -> None:
    scene = Scene((P95 + SOON / 2, SOON)).known()
    assert scene.answer() == "first"
    assert scene.left == ["second"]
    gate = scene.backend.gate
    assert (gate.hedges, gate.hedges_won, gate.in_flight) == (1, 0, 0)


def test_whoever_answers_sooner_is_asked_alone() -> None:
    scene = Scene((P95 - SOON, SOON)).known()
    assert scene.asked() == ["first"]


def test_nothing_is_sent_again_before_it_is_known_what_is_usual() -> None:
    assert Scene().asked() == ["first"]


@pytest.mark.parametrize(
    "path",
    [
        "/maas.sequence.v1.SequenceService/StepSession",
        "/maas.generation.v1.GenerationService/Generate",
        "/maas.vision.v1.VisionService/Explain",
        "/maas.model.v1.ModelService/LoadModel",
    ],
)
def test_what_is_no_short_function_of_its_request_is_sent_once(path: str) -> None:
    assert Scene(path=path).known().asked() == ["first"]


def test_switched_off_nothing_is_sent_again() -> None:
    assert Scene(bounds=Bounds(hedge=False)).known().asked() == ["first"]


def test_half_of_the_budget_is_left_to_calls_that_failed() -> None:
    scene = Scene().known()
    while scene.backend.budget.spare():
        pass
    assert scene.asked() == ["first"]
    assert scene.backend.budget.spend()


def test_a_copy_is_paid_by_the_budget() -> None:
    scene = Scene().known()
    scene.answer()
    left = sum(iter(scene.backend.budget.spend, False))
    assert left == MOST - 1


def test_no_place_is_taken_that_others_want() -> None:
    scene = Scene(bounds=Bounds(floor=4, ceiling=4)).known()
    scene.backend.gate.in_flight = 2
    assert scene.asked() == ["first"]
    scene = Scene(bounds=Bounds(floor=4, ceiling=4)).known()
    assert scene.asked() == ["first", "second"]


def test_the_trace_tells_of_both_and_why() -> None:
    scene = Scene().known()
    scene.answer()
    by = {span.attributes.get("server.address"): span for span in scene.kept}
    call, loser, winner = by[None], by["first"], by["second"]
    assert [(event.name, event.attributes) for event in call.events] == [("hedge", {"server.address": "first"})]
    assert [span.attributes[STATUS] for span in (loser, winner)] == [StatusCode.CANCELLED.value[0], 0]
    assert {span.parent_id for span in (loser, winner)} == {call.span_id}


def test_the_metrics_tell_what_was_sent_and_what_it_won() -> None:
    scene, metrics = Scene().known(), Metrics()
    scene.answer()
    OverloadMetrics(metrics, [scene.backend]).tell()
    told = {
        fate: metrics.registry.get_sample_value("maas_hedges_total", {"backend": "vision", "fate": fate})
        for fate in ("sent", "won")
    }
    assert told == {"sent": 1.0, "won": 1.0}
