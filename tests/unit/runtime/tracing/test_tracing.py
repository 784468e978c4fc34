"""Which calls are traced, what their spans hold, and that a full queue or an absent collector costs no call."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from services.runtime.context import RequestContext
from services.runtime.tracing import otlp
from services.runtime.tracing.joined import joined, queued
from services.runtime.tracing.outlet import BATCH, Away, Outlet
from services.runtime.tracing.sampler import Bucket, Sampler
from services.runtime.tracing.settings import TraceSettings
from services.runtime.tracing.span import LEFT_OUT, MOST_PARTS, Kind, Span
from services.runtime.tracing.tracer import Tracer, served

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def header(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}"}


def begun(metadata: dict[str, str], chance: float = 0.5, ratio: float = 0.0, bucket: Bucket | None = None) -> Any:
    """A call that came with `metadata`, where the dice show `chance`."""
    kept: list[Span] = []
    call = RequestContext("/maas.x.v1.X/Do", "r", metadata=metadata)
    Tracer(Sampler(ratio, bucket or Bucket(10), lambda: chance), kept.append).begin(call)
    return call


def span(name: str = "call", keep: Any = lambda _: None, trace: int = 1) -> Span:
    return Span(name, Kind.SERVER, f"{trace:032x}", f"{trace:016x}", "", keep)


def test_a_caller_decides_and_else_chance_does() -> None:
    assert begun(header("01")).span is not None
    assert begun(header("00"), ratio=1.0).span is None
    assert begun({}, chance=0.3, ratio=0.4).span is not None
    assert begun({}, chance=0.5, ratio=0.4).span is None
    assert begun({"traceparent": "nonsense-1"}, ratio=1.0).span is None


def test_a_traced_call_says_so_to_those_it_calls_and_any_other_does_not() -> None:
    child = begun(header("01"))
    assert (child.span.trace_id, child.span.parent_id) == (TRACE_ID, PARENT_ID)
    assert dict(child.outgoing())["traceparent"] == f"00-{TRACE_ID}-{child.span.span_id}-01"
    asking = child.span.child("ask", Kind.CLIENT)
    assert dict(child.outgoing(asking.span_id))["traceparent"] == f"00-{TRACE_ID}-{asking.span_id}-01"
    root = begun({}, ratio=1.0)
    assert dict(root.outgoing())["traceparent"].endswith(f"{root.span.span_id}-01") and root.span.parent_id == ""
    assert dict(begun({}).outgoing())["traceparent"].endswith("-00")


def test_callers_cannot_have_more_traced_than_is_allowed_in_a_second() -> None:
    now = [0.0]
    bucket = Bucket(2, lambda: now[0])
    calls = [begun(header("03"), bucket=bucket) for _ in range(3)]
    assert [call.span is not None for call in calls] == [True, True, False]
    # Nor do those that it calls trace the third.
    assert dict(calls[2].outgoing())["traceparent"].endswith("-02")
    now[0] = 0.5
    assert [begun(header("01"), bucket=bucket).span is not None for _ in range(2)] == [True, False]


def test_the_end_of_a_call_is_told_in_the_words_of_the_conventions() -> None:
    call = begun(header("01"))
    served(call.span, "NOT_FOUND")
    assert call.span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "maas.x.v1.X",
        "rpc.method": "Do",
        "rpc.grpc.status_code": 5,
    }
    assert not call.span.failed
    other = begun(header("01"))
    served(other.span, "INTERNAL")
    assert other.span.failed


def test_an_ended_span_is_kept_once_and_changes_no_more() -> None:
    kept: list[Span] = []
    one = span(keep=kept.append)
    one.end(at=7.0)
    one.end(failed=True)
    one.note("late", 1)
    one.event("late")
    assert kept == [one] and one.ended == 7.0 and not (one.failed or one.attributes or one.events)


def test_what_calls_share_is_linked_both_ways() -> None:
    kept: list[Span] = []
    calls = [span(keep=kept.append, trace=trace) for trace in (1, 2, 3)]
    queued(calls[0], 1.0, 2.0)
    joined("batch", calls, 2.0, 3.0, {"maas.batch.items": 3})
    wait, first, second, third = kept
    assert (wait.name, wait.began, wait.ended, wait.parent_id) == ("queue", 1.0, 2.0, calls[0].span_id)
    assert first.links == [(second.trace_id, second.span_id), (third.trace_id, third.span_id)]
    assert second.links == third.links == [(first.trace_id, first.span_id)]
    assert [one.trace_id for one in (first, second, third)] == [one.trace_id for one in calls]


def test_a_long_call_tells_a_bounded_number_of_parts() -> None:
    kept: list[Span] = []
    call = span(keep=kept.append)
    for step in range(MOST_PARTS + 5):
        joined("step", [call], step, step + 1, {})
    assert len(kept) == MOST_PARTS and call.attributes == {LEFT_OUT: 5}


def test_spans_become_otlp() -> None:
    parent = span()
    one = parent.child("ask", Kind.CLIENT, began=100.0)
    one.attributes |= {"text": "a", "whole": 1, "true": True, "part": 1.0}
    one.event("retry", **{"server.address": "h:1"})
    one.link(parent)
    one.end(failed=True, at=100.25)
    (group,) = otlp.request([one], otlp.resource({"service.name": "s"})).resource_spans
    (told,) = group.scope_spans[0].spans
    assert (told.trace_id.hex(), told.span_id.hex(), told.parent_span_id.hex()) == (
        *(one.trace_id, one.span_id, parent.span_id),
    )
    assert told.end_time_unix_nano - told.start_time_unix_nano == pytest.approx(0.25e9, abs=1e3)
    assert told.kind == told.SPAN_KIND_CLIENT and told.status.code == 2
    assert [one.value.WhichOneof("value") for one in told.attributes] == [
        *("string_value", "int_value", "bool_value", "double_value"),
    ]
    assert told.events[0].name == "retry" and told.links[0].span_id.hex() == parent.span_id
    assert group.resource.attributes[0].value.string_value == "s"


class Sink:
    """A collector that can be away or refuse; `taken` holds what it got."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.problem: Exception | None = None
        self.asked = threading.Semaphore(0)
        self.hold = threading.Event()
        self.hold.set()

    def pack(self, spans: Sequence[Span]) -> list[str]:
        return [one.name for one in spans]

    def send(self, message: list[str]) -> None:
        self.asked.release()
        self.hold.wait(10)
        if self.problem is not None:
            raise self.problem
        self.taken += message

    def close(self) -> None: ...


def test_what_the_queue_does_not_hold_is_dropped_and_counted_and_nobody_waits() -> None:
    sink, fates = Sink(), Counter[str]()
    sink.hold.clear()
    outlet = Outlet(lambda: sink, 2 * BATCH, lambda fate, count: fates.update({fate: count}))
    for number in range(BATCH):
        outlet.put(span(str(number)))
    assert sink.asked.acquire(timeout=10)
    for number in range(2 * BATCH + 3):
        outlet.put(span(str(number)))
    assert fates == {"dropped": 3}
    sink.hold.set()
    outlet.close()
    assert len(sink.taken) == 3 * BATCH and fates == {"dropped": 3, "exported": 3 * BATCH}


def test_a_collector_that_was_away_gets_what_it_missed() -> None:
    sink, fates = Sink(), Counter[str]()
    sink.problem = Away("starting")
    outlet = Outlet(lambda: sink, 1000, lambda fate, count: fates.update({fate: count}))
    for number in range(BATCH):
        outlet.put(span(str(number)))
    assert sink.asked.acquire(timeout=10)
    outlet.put(span("last"))
    sink.problem = None
    outlet.close()
    assert sink.taken == [*map(str, range(BATCH)), "last"] and fates == {"exported": BATCH + 1}


def test_what_is_refused_for_good_is_counted_and_lost() -> None:
    sink, fates = Sink(), Counter[str]()
    sink.problem = RuntimeError("unauthenticated")
    outlet = Outlet(lambda: sink, 1000, lambda fate, count: fates.update({fate: count}))
    outlet.put(span())
    outlet.close()
    assert fates == {"failed": 1} and not sink.taken


@pytest.mark.parametrize(
    "bad", [{"trace_endpoint": "ftp://h:1"}, {"trace_endpoint": "http://h"}, {"trace_headers": "no"}]
)
def test_bad_settings_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give "):
        TraceSettings(**bad)
