"""A collector of OTLP for tests: a real gRPC server that keeps what it is sent, spans and metrics."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc


@dataclass(frozen=True)
class Told:
    """A span as it came."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


@dataclass
class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """`spans` and `metrics` by name as they came; with `refuse`, nothing is taken and this is said."""

    port: int = 0
    spans: list[Told] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)
    refuse: grpc.StatusCode | None = None
    came: threading.Condition = field(default_factory=threading.Condition)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.refuse is not None:
            context.abort(self.refuse, "not now")
        with self.came:
            self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            if isinstance(request, metrics_pb.ExportMetricsServiceRequest):
                self.metrics |= {one.name: one for one in _metrics(request)}
                return metrics_pb.ExportMetricsServiceResponse()
            self.spans += _spans(request)
            self.came.notify_all()
            return trace_pb.ExportTraceServiceResponse()

    def until(self, enough: Callable[[list[Told]], Any], seconds: float = 20) -> list[Told]:
        """The spans, once they are `enough`."""
        end = time.monotonic() + seconds
        with self.came:
            while not enough(self.spans):
                assert self.came.wait(end - time.monotonic()), sorted(one.name for one in self.spans)
            return list(self.spans)


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """A running one."""
    server = grpc.server(ThreadPoolExecutor(2))
    made = Collector(server.add_insecure_port(f"127.0.0.1:{port}"))
    trace_grpc.add_TraceServiceServicer_to_server(made, server)
    metrics_grpc.add_MetricsServiceServicer_to_server(made, server)
    server.start()
    try:
        yield made
    finally:
        server.stop(None).wait()


def _spans(request: Any) -> Iterator[Told]:
    for group in request.resource_spans:
        about = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Told(
                    *(about["service.name"], span.name, span.kind),
                    *(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
                    *(span.start_time_unix_nano, span.end_time_unix_nano),
                    failed=span.status.code == 2,
                    attributes=_attributes(span.attributes),
                    events=tuple(event.name for event in span.events),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                )


def _metrics(request: Any) -> Iterator[Any]:
    for group in request.resource_metrics:
        for scope in group.scope_metrics:
            yield from scope.metrics


def _attributes(pairs: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}
