"""Request ids and W3C trace context: kept when sane, made when not, passed on to the next service."""

import time

import pytest

from services.runtime.context import PRIORITY, RequestContext, Trace, request_id_from
from services.runtime.errors import DeadlinePassed
from services.runtime.identity import policy
from services.runtime.identity.caller import Caller
from services.runtime.identity.policy import TRUSTED, UNLIMITED, Rights

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_goes_on_with_a_span_of_our_own() -> None:
    call = RequestContext(request_id="r", metadata={"traceparent": PARENT, "tracestate": "vendor=1"})
    trace = call.trace
    assert trace is not None
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.span_id != "00f067aa0ba902b7"
    carried = dict(call.outgoing())
    assert call.trace is trace
    assert carried["traceparent"] == f"00-{trace.trace_id}-{trace.span_id}-01"
    assert carried["tracestate"] == "vendor=1"
    assert carried["x-request-id"] == "r"


@pytest.mark.parametrize("broken", ["", "x", PARENT.upper(), f"00-{'0' * 32}-00f067aa0ba902b7-01", PARENT + "0"])
def test_a_broken_traceparent_begins_a_new_trace(broken: str) -> None:
    trace = Trace.of({"traceparent": broken, "tracestate": "vendor=1"})
    assert len(trace.trace_id) == 32
    assert trace.state == ""
    assert trace.flags == "00"


@pytest.mark.parametrize(("given", "kept"), [("abc", True), ("x" * 129, False), ("a\nb", False), ("é", False)])
def test_request_ids_are_printable_and_short(given: str, kept: bool) -> None:
    assert (request_id_from({"x-request-id": given}) == given) is kept


def test_a_passed_deadline_is_told() -> None:
    RequestContext(deadline=time.monotonic() + 60).check_deadline()
    RequestContext().check_deadline()
    with pytest.raises(DeadlinePassed):
        RequestContext(deadline=time.monotonic() - 1).check_deadline()


def rights(text: str) -> Rights:
    return policy.parse(text).of(Caller(roles=frozenset({"oncall"})))


GRANT = '[[allow]]\nroles = ["oncall"]\nmethods = ["maas.generation.*"]\npriorities = ["critical"]\n'


@pytest.mark.parametrize(
    ("allowed", "claim", "rises"),
    [
        (UNLIMITED, {}, True),
        (UNLIMITED, {PRIORITY: "critical"}, True),
        (UNLIMITED, {PRIORITY: "default"}, False),
        (UNLIMITED, {PRIORITY: "batch"}, False),
        (TRUSTED, {}, True),
        (rights(GRANT), {}, True),
        (rights(GRANT), {PRIORITY: "default"}, False),
        (rights("[[allow]]\n"), {PRIORITY: "critical"}, False),
    ],
)
def test_a_call_goes_before_others_where_it_is_granted_on_every_server(
    allowed: Rights, claim: dict[str, str], rises: bool
) -> None:
    call = RequestContext("/maas.generation.v1.GenerationService/Generate", metadata=claim, rights=allowed)
    assert (call.rank(-3), call.trailing) == (-3, [])
    assert call.rank(100) == (100 if rises else 0)
    assert call.trailing == ([] if rises else [(PRIORITY, "default")])
    beyond = RequestContext(call.method, metadata=dict(call.outgoing()))
    assert beyond.rank(100) == call.rank(100)
