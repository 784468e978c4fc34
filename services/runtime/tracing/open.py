"""The telemetry of a process, as its settings say. Imports what speaks OTLP with the first span that is sent."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from services.runtime.metrics import Metrics
from services.runtime.tracing.outlet import Collector, Outlet
from services.runtime.tracing.push import Push
from services.runtime.tracing.sampler import Bucket, Sampler
from services.runtime.tracing.settings import TraceSettings, headers_of
from services.runtime.tracing.span import Span
from services.runtime.tracing.tracer import Tracer

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


class Spans:
    """Takes spans for the process that is called `about`."""

    def __init__(self, chosen: TraceSettings, about: dict[str, str]) -> None:
        from services.runtime.tracing import otlp
        from services.runtime.tracing.collector import Caller

        self._resource, self._request = otlp.resource(about), otlp.request
        self._caller = Caller(chosen.trace_endpoint, TRACES, headers(chosen), chosen.trace_authority)
        self.send, self.close = self._caller.send, self._caller.close

    def pack(self, spans: Sequence[Span]) -> Any:
        return self._request(spans, self._resource)


def open_tracer(chosen: TraceSettings, metrics: Metrics) -> tuple[Tracer | None, Callable[[], None]]:
    """What begins the spans of calls, None where nobody wants them; and what sends the last of them. Blocking."""
    if not chosen.trace_endpoint:
        return None, lambda: None

    def collector() -> Collector:
        return Spans(chosen, about(chosen))

    def count(fate: str, spans: int) -> None:
        metrics.trace_spans.labels(fate).inc(spans)

    outlet = Outlet(collector, chosen.trace_queue, count)
    return Tracer(Sampler(chosen.trace_ratio, Bucket(chosen.trace_calls_per_s)), outlet.put), outlet.close


def open_push(chosen: TraceSettings, metrics: Metrics) -> Callable[[], None]:
    """Sends metrics from now on, where somebody wants them; returns what sends the last of them. Blocking."""
    if not chosen.metrics_endpoint:
        return lambda: None
    began = time.time()

    def sender() -> Callable[[], None]:
        from services.runtime.tracing import figures, otlp
        from services.runtime.tracing.collector import Caller

        resource = otlp.resource(about(chosen))
        caller = Caller(chosen.metrics_endpoint, METRICS, headers(chosen), chosen.trace_authority)
        return lambda: caller.send(figures.request(metrics.registry.collect(), resource, began, time.time()))

    return Push(sender, chosen.metrics_every_s).close


def open_telemetry(chosen: TraceSettings, metrics: Metrics) -> tuple[Tracer | None, Callable[[], None]]:
    """Both: what begins the spans of calls, and what sends the last of everything. Blocking."""
    tracer, flush = open_tracer(chosen, metrics)
    pushed = open_push(chosen, metrics)

    def close() -> None:
        flush()
        pushed()

    return tracer, close


def about(chosen: TraceSettings) -> dict[str, str]:
    """The process, in the words of OpenTelemetry's resources."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    return {
        "service.namespace": "maas",
        "service.name": chosen.service_name,
        "service.instance.id": instance,
        "process.pid": str(os.getpid()),
    }


def headers(chosen: TraceSettings) -> list[tuple[str, str]]:
    """What the collector wants to be told beside."""
    return headers_of(chosen.trace_headers.get_secret_value()) if chosen.trace_headers else []
