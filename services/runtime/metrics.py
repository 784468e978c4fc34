"""Every metric of a server, in one table. gRPC calls use the names of gRFC A66."""

import os
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server

# gRFC A66 latency buckets, seconds.
LATENCY_BUCKETS = (
    *(0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4),
    *(0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100),
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The instruments; created once a process and handed down."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        # Calls that reached a handler or were refused at the door.
        self.calls_started = Counter("grpc_server_call_started", "calls begun", ["grpc_method"], registry=registry)
        # Door to last byte, by final status.
        self.call_duration = Histogram(
            "grpc_server_call_duration_seconds",
            "duration of calls",
            ["grpc_method", "grpc_status"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        # Calls inside right now.
        self.calls_inside = Gauge(
            "maas_calls_inside", "calls in progress", registry=registry, multiprocess_mode="livesum"
        )
        # Items waiting for the device, by batcher.
        self.queue_depth = Gauge(
            "maas_queue_depth", "items waiting", ["queue"], registry=registry, multiprocess_mode="livesum"
        )
        # Items computed together.
        self.batch_size = Histogram(
            "maas_batch_size", "items a batch", ["queue"], buckets=BATCH_BUCKETS, registry=registry
        )
        # Waiting for the device.
        self.queue_seconds = Histogram(
            "maas_queue_seconds", "wait of an item", ["queue"], buckets=LATENCY_BUCKETS, registry=registry
        )
        # On the device, per batch.
        self.compute_seconds = Histogram(
            "maas_compute_seconds",
            "compute of a batch",
            ["queue"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        # Items dropped before compute: their caller left or its deadline passed.
        self.skipped = Counter("maas_skipped", "items skipped before compute", ["queue", "why"], registry=registry)
        # Generated tokens and prompt tokens, by model.
        self.tokens = Counter("maas_tokens", "tokens", ["model", "kind"], registry=registry)
        # Schedule → run → commit rounds of the generation engine.
        self.engine_steps = Counter("maas_engine_steps", "engine steps", ["model"], registry=registry)
        # Request to first token.
        self.first_token = Histogram(
            "maas_time_to_first_token_seconds", "TTFT", ["model"], buckets=LATENCY_BUCKETS, registry=registry
        )
        # Between two tokens of one sequence.
        self.inter_token = Histogram(
            "maas_inter_token_seconds",
            "inter-token latency",
            ["model"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        # Gateway cache look-ups: hit-l1, hit-l2, miss, coalesced, bypass.
        self.cache = Counter("maas_cache_lookups", "cache outcomes", ["outcome"], registry=registry)
        # Redis errors and time-outs that became misses.
        self.cache_faults = Counter("maas_cache_faults", "Redis faults", registry=registry)
        # 0 closed, 1 open.
        self.breaker_open = Gauge(
            "maas_breaker_open",
            "circuit breaker state",
            ["breaker"],
            registry=registry,
            multiprocess_mode="max",
        )

    def observe(self, method: str, status: str, seconds: float) -> None:
        """Records the end of one call."""
        self.call_duration.labels(method, status).observe(seconds)


def expose(metrics: Metrics, address: tuple[str, int]) -> Callable[[], Any]:
    """Serves /metrics on its own thread; returns what stops it. With several workers, sums over all of them."""
    registry = metrics.registry
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    host, port = address
    server, thread = start_http_server(port, addr=host, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
