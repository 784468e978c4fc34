"""Metrics by OTLP and exemplars for Prometheus: the same numbers, beside traces that can be looked up."""

import urllib.request
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.generation.observe import GenerationMetrics
from services.runtime.metrics import Metrics
from services.runtime.settings import ServerSettings
from services.runtime.telemetry.port import opened
from services.runtime.tracing import figures, otlp
from services.runtime.tracing.open import open_telemetry
from services.runtime.tracing.span import Kind, Span
from tests.collector import collector
from tests.suite.conftest import free_ports

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def told(registry: CollectorRegistry) -> dict[str, Any]:
    (group,) = figures.request(registry.collect(), otlp.resource({}), 1.0, 2.0).resource_metrics
    return {one.name: one for one in group.scope_metrics[0].metrics}


def test_counters_gauges_and_histograms_keep_their_numbers() -> None:
    registry = CollectorRegistry()
    Counter("calls", "calls", ["way"], registry=registry).labels("in").inc(3)
    Gauge("depth", "waiting", registry=registry).set(-2)
    waits = Histogram("wait_seconds", "wait", ["queue"], buckets=(1, 2), registry=registry)
    for seconds in (0.5, 1.5, 1.6, 9.0):
        waits.labels("q").observe(seconds)
    waits.labels("q").observe(1.2, {"trace_id": TRACE_ID, "span_id": SPAN_ID})
    found = told(registry)
    (calls,) = found["calls"].sum.data_points
    assert (calls.as_double, calls.attributes[0].value.string_value) == (3, "in")
    assert found["calls"].sum.is_monotonic and found["calls"].sum.aggregation_temporality == 2
    assert found["depth"].gauge.data_points[0].as_double == -2
    (wait,) = found["wait_seconds"].histogram.data_points
    assert (wait.count, list(wait.bucket_counts), list(wait.explicit_bounds)) == (5, [1, 3, 1], [1, 2])
    assert abs(wait.sum - 13.8) < 1e-9 and (wait.start_time_unix_nano, wait.time_unix_nano) == (10**9, 2 * 10**9)
    assert [one.trace_id.hex() for one in wait.exemplars] == [TRACE_ID]


def test_every_metric_of_a_server_goes_to_a_collector_that_is_named() -> None:
    metrics = Metrics()
    metrics.of("/maas.x.v1.X/Do").begin()
    metrics.of("/maas.x.v1.X/Do").end("OK", 0.01, 1, 1, TRACE_ID)
    with collector() as sink:
        _, close = open_telemetry(ServerSettings(metrics_endpoint=sink.address, trace_headers="a=b"), metrics)
        close()
        (point,) = sink.metrics["grpc_server_call_duration_seconds"].histogram.data_points
        assert point.count == 1 and point.exemplars[0].trace_id.hex() == TRACE_ID
        assert sink.headers[0]["a"] == "b"


def test_prometheus_is_told_which_traced_call_took_how_long() -> None:
    metrics, span = Metrics(), Span("call", Kind.SERVER, TRACE_ID, SPAN_ID, "", lambda _: None)
    metrics.of("/maas.x.v1.X/Do").end("OK", 0.01, 1, 1, TRACE_ID)
    GenerationMetrics(metrics, "tiny").tokens(1, 0.2, True, span)
    port = free_ports(1)[0]
    stop, _ = opened(metrics, ("127.0.0.1", port))
    try:
        lines = scraped(port, "application/openmetrics-text; version=1.0.0").splitlines()
        plain = scraped(port, "text/plain")
    finally:
        stop()
    marked = [line for line in lines if TRACE_ID in line]
    assert [line.split("{")[0] for line in marked] == [
        *("grpc_server_call_duration_seconds_bucket", "maas_time_to_first_token_seconds_bucket"),
    ]
    assert TRACE_ID not in plain


def scraped(port: int, accepted: str) -> str:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accepted})
    with urllib.request.urlopen(asked, timeout=10) as reply:
        return str(reply.read().decode())
