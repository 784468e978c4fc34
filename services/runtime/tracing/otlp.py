"""Spans → the messages of OTLP (opentelemetry-proto, trace v1). Knows no network.

Without OpenTelemetry's SDK, whose spans cost 28 µs where the call is and 44 µs to encode: these cost 4 and 11.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as pb

from services.runtime.tracing.span import Span, Value

SCOPE = InstrumentationScope(name="maas")
SAMPLED = 0x01


def request(spans: Sequence[Span], resource: Resource) -> ExportTraceServiceRequest:
    """One message of spans that ended."""
    to_unix_s = time.time() - time.monotonic()
    scope = pb.ScopeSpans(scope=SCOPE, spans=[_span(one, to_unix_s) for one in spans])
    return ExportTraceServiceRequest(resource_spans=[pb.ResourceSpans(resource=resource, scope_spans=[scope])])


def resource(attributes: Mapping[str, Value]) -> Resource:
    """Who tells."""
    return Resource(attributes=pairs(attributes))


def pairs(attributes: Mapping[str, Value]) -> Iterable[KeyValue]:
    """Attributes as OTLP has them."""
    return [_pair(key, value, type(value).__name__) for key, value in attributes.items()]


def _span(span: Span, to_unix_s: float) -> pb.Span:
    ended = span.began if span.ended is None else span.ended
    return pb.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        trace_state=span.state,
        flags=SAMPLED,
        name=span.name,
        kind=int(span.kind),  # type: ignore[arg-type]
        start_time_unix_nano=nanos(span.began + to_unix_s),
        end_time_unix_nano=nanos(ended + to_unix_s),
        attributes=pairs(span.attributes),
        events=[
            pb.Span.Event(time_unix_nano=nanos(e.at + to_unix_s), name=e.name, attributes=pairs(e.attributes))
            for e in span.events
        ],
        links=[pb.Span.Link(trace_id=bytes.fromhex(t), span_id=bytes.fromhex(s)) for t, s in span.links],
        status=pb.Status(code=pb.Status.STATUS_CODE_ERROR) if span.failed else None,
    )


def nanos(unix_s: float) -> int:
    """Never below zero."""
    return max(0, int(unix_s * 1e9))


# Most pairs come again with the next call: its method, its service, its status.
@lru_cache(1024)
def _pair(key: str, value: Value, kind: str) -> KeyValue:
    """`kind` keeps 1, 1.0 and True apart."""
    if kind == "bool":
        return KeyValue(key=key, value=AnyValue(bool_value=bool(value)))
    if kind == "int":
        return KeyValue(key=key, value=AnyValue(int_value=int(value)))
    if kind == "float":
        return KeyValue(key=key, value=AnyValue(double_value=float(value)))
    return KeyValue(key=key, value=AnyValue(string_value=str(value)))
