"""The server's span of a call that is traced, and what its end says. Nearly every call costs a look at a flag."""

from collections.abc import Callable

from services.runtime.code import Code
from services.runtime.context import TRACEPARENT, RequestContext, Trace
from services.runtime.tracing.sampler import Sampler
from services.runtime.tracing.span import Kind, Span, Value

STATUS = "rpc.grpc.status_code"
_CODES = {code.name: int(code) for code in Code}
# OpenTelemetry's semantic conventions of gRPC: what of a server's answers is the server's own failure.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class Tracer:
    """`keep` takes each span as it ends."""

    def __init__(self, sampler: Sampler, keep: Callable[[Span], None]) -> None:
        self._sampler, self._keep = sampler, keep

    def begin(self, call: RequestContext) -> None:
        """Gives a call that is traced its span. One that may not be is not traced by those it calls either."""
        given = call.metadata.get(TRACEPARENT, "")
        if not self._sampler.wants(given):
            return
        trace = Trace.of(call.metadata, sampled=not given)
        if not trace.sampled:  # a header that is none
            return
        if not self._sampler.permits():
            call.follow(trace.unsampled())
            return
        place = (trace.trace_id, trace.span_id, trace.parent_id, self._keep, call.started)
        span = Span(call.method[1:], Kind.SERVER, *place, state=trace.state, attributes=rpc(call.method))
        call.follow(trace, span)


def rpc(method: str) -> dict[str, Value]:
    """What the semantic conventions call `/package.Service/Method`."""
    service, _, name = method[1:].partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def served(span: Span, status: str) -> None:
    """The end of a call, by the name of its status."""
    span.note(STATUS, _CODES.get(status, int(Code.UNKNOWN)))
    span.end(failed=status in _FAULTS)
