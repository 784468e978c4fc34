"""Every metric of a server, in one table. gRPC calls use the names of gRFC A66."""

import threading
from collections.abc import Callable
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from services.runtime.telemetry.calls import LATENCY_BUCKETS, SIZE_BUCKETS, Calls
from services.runtime.telemetry.process import ProcessMetrics
from services.runtime.telemetry.teller import CallTeller, Registry

AGE_BUCKETS = (1, 10, 60, 300, 900, 1800, 3600, 7200, 21600, 86400)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The instruments; created once a process and handed down."""

    def __init__(self) -> None:
        self.registry = Registry(self.tell)
        # What keeps plain numbers tells them by these, whenever somebody looks.
        self.tellers: list[Callable[[], None]] = [self._tell_calls, ProcessMetrics(self.registry).tell]
        self._telling = threading.Lock()
        self.methods: dict[str, Calls] = {}
        self._of_calls()
        self._of_models()
        self._of_queues()
        self._of_generation()
        self._of_sessions()
        self._of_the_cache()
        self._of_overload()

    def _of_calls(self) -> None:
        # Calls that reached a handler or were refused at the door; door to last byte, by final status; bytes of
        # their messages.
        self._served = self._call_teller("grpc_server_call", "grpc_method")
        # At the gateway: every try of a call to a service, and calls with all their tries.
        self.attempts = self._call_teller("grpc_client_attempt", "grpc_method", "grpc_target")
        whole = ("grpc_method", "grpc_target", "grpc_status")
        self.client_calls = CallTeller(
            None, self._latency("grpc_client_call_duration_seconds", "calls with their tries", *whole)
        )
        # Spans by what became of them: exported, dropped (the queue was full), failed (the collector refuses).
        self.trace_spans = self._counter("maas_trace_spans", "spans", "fate")
        # Calls inside right now.
        self.calls_inside = self._gauge("maas_calls_inside", "calls in progress")
        # And how many may be: MAAS_QUEUE_LIMIT.
        self.calls_limit = self._gauge("maas_calls_limit", "calls that may be in progress")
        # When the certificate that this process shows is over, seconds since the epoch; 0 = it shows none.
        self.certificate_end = self._gauge("maas_certificate_end_seconds", "end of the certificate", mode="max")

    def _of_models(self) -> None:
        # 1 = answers.
        self.models_loaded = self._gauge(
            "maas_model_serving", "versions that answer", "model", "version", mode="max"
        )
        # Verified, built and warmed up; or why not: outcome failed.
        self.model_load = self._latency("maas_model_load_seconds", "loads of versions", "model", "outcome")

    def _of_queues(self) -> None:
        # Items waiting for the device, by batcher.
        self.queue_depth = self._gauge("maas_queue_depth", "items waiting", "queue")
        # Items computed together.
        self.batch_size = Histogram(
            "maas_batch_size", "items a batch", ["queue"], buckets=BATCH_BUCKETS, registry=self.registry
        )
        # Waiting for the device.
        self.queue_seconds = self._latency("maas_queue_seconds", "wait of an item", "queue")
        # On the device, per batch.
        self.compute_seconds = self._latency("maas_compute_seconds", "compute of a batch", "queue")
        # Items dropped before compute: their caller left or its deadline passed.
        self.skipped = self._counter("maas_skipped", "items skipped before compute", "queue", "why")

    def _of_generation(self) -> None:
        # Prompt tokens, cached prompt tokens and completion tokens.
        self.tokens = self._counter("maas_tokens", "tokens", "model", "kind")
        # Schedule → run → commit rounds of the engine.
        self.engine_steps = self._counter("maas_engine_steps", "engine steps", "model")
        # Streams recorded and resumed, and what kept a record from being whole: see recorder.py.
        self.stream_records = self._counter("maas_stream_records", "recorded streams", "event")
        # Request to first token.
        self.first_token = self._latency("maas_time_to_first_token_seconds", "TTFT", "model")
        # Between two tokens of one sequence.
        self.inter_token = self._latency("maas_inter_token_seconds", "inter-token latency", "model")
        # KV blocks by state: held by sequences, cached for equal prefixes, blank.
        self.kv_blocks = self._gauge("maas_generation_kv_blocks", "KV blocks", "model", "state")
        # Sequences that wait for their first token or to come back, by priority: high (above 0), normal, low.
        self.waiting = self._gauge("maas_generation_waiting", "sequences waiting", "model", "priority")
        # Sequences pushed out for want of blocks or by a higher priority, to be computed again.
        self.preemptions = self._counter("maas_generation_preemptions", "preemptions", "model")
        # Tokens guessed and computed on trial, and those of them that came true.
        self.drafts = self._counter("maas_generation_drafts", "drafts", "model", "fate")

    def _of_sessions(self) -> None:
        # Sessions held by the process.
        self.sessions = self._gauge("maas_sessions", "live sessions")
        # Checkpoints that stand (kept) or found the session elsewhere (lost), sessions taken over (taken) or not
        # found (unknown), and times Redis gave no answer (fault).
        self.session_checkpoints = self._counter("maas_session_checkpoints", "session checkpoints", "event")

    def _of_the_cache(self) -> None:
        # Gateway look-ups: hit-l1, hit-l2, miss, coalesced, bypass; by model, "" where none was looked up.
        self.cache = self._counter("maas_cache_lookups", "cache outcomes", "outcome", "model")
        # How old the answers were that came from this process (hit-l1) and from Redis (hit-l2).
        self.cache_age = Histogram(
            *("maas_cache_age_seconds", "age of cached answers", ["tier", "model"]),
            buckets=AGE_BUCKETS,
            registry=self.registry,
        )
        # Redis errors and time-outs that became misses.
        self.cache_faults = self._counter("maas_cache_faults", "Redis faults")
        # Values of Redis that did not open under the cache's key, and became misses.
        self.cache_unopened = self._counter("maas_cache_unopened", "sealed values that did not open")
        # 0 closed, 1 open; the worst of all workers.
        self.breaker_open = self._gauge("maas_breaker_open", "breaker state", "breaker", mode="max")

    def _of_overload(self) -> None:
        # At the gateway, by service: short calls that may be in flight, and calls inside: short, long, queued.
        self.backend_limit = self._gauge("maas_backend_limit", "short calls that may be in flight", "backend")
        self.backend_calls = self._gauge("maas_backend_calls", "calls by state", "backend", "state")
        # Replicas by state: serving, ejected (left out as they keep failing), away.
        self.backend_replicas = self._gauge("maas_backend_replicas", "replicas by state", "backend", "state")
        # Calls that the gateway refused for load, by class and reason; calls that a service refused for its own.
        self.backend_refused = self._counter(
            "maas_backend_refused", "calls refused for load", "backend", "priority", "reason"
        )
        self.backend_shed = self._counter("maas_backend_shed", "calls shed by the service", "backend")
        # Calls that claimed a class which their role does not give, and were taken as of the usual one.
        self.backend_lowered = self._counter("maas_backend_lowered", "calls of a class not granted", "backend")
        # Second copies of slow calls: sent, and of them those that answered first.
        self.hedges = self._counter("maas_hedges", "hedged calls", "backend", "fate")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _latency(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=LATENCY_BUCKETS, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: Literal["livesum", "max"] = "livesum") -> Gauge:
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode=mode)

    def _call_teller(self, name: str, *labels: str) -> CallTeller:
        """The names of gRFC A66 as OpenTelemetry writes them for Prometheus. Messages count as before packing."""
        how = (*labels, "grpc_status")
        sizes = (self._size(f"{name}_{way}_total_compressed_message_size_bytes", how) for way in ("sent", "rcvd"))
        started = self._counter(f"{name}_started", "calls begun", *labels)
        return CallTeller(started, self._latency(f"{name}_duration_seconds", "duration", *how), tuple(sizes))

    def _size(self, name: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, "bytes of a call's messages", labels, buckets=SIZE_BUCKETS, registry=self.registry)

    def of(self, method: str) -> Calls:
        """Takes what the calls of one method were; `method` is its path."""
        return self.methods.setdefault(method.removeprefix("/"), Calls())

    def standing(self) -> tuple[int, float, float, float | None]:
        """Calls inside and how many may be, items that wait, and the part of KV blocks held; None without any."""
        inside = sum(calls.begun - calls.ended for calls in list(self.methods.values()))
        blocks = _by(self.kv_blocks, "state")
        held = blocks.get("held", 0.0) / sum(blocks.values()) if any(blocks.values()) else None
        return inside, sum(_by(self.calls_limit).values()), sum(_by(self.queue_depth).values()), held

    def tell(self) -> None:
        """Brings the instruments up to date. From any thread."""
        with self._telling:
            for teller in self.tellers:
                teller()

    def _tell_calls(self) -> None:
        methods = list(self.methods.items())
        for method, calls in methods:
            self._served.tell(calls, method)
        # Read in this order, so that a call which ends meanwhile does not make it negative.
        ended = sum(calls.ended for _, calls in methods)
        self.calls_inside.set(sum(calls.begun for _, calls in methods) - ended)


def _by(gauge: Gauge, label: str = "") -> dict[str, float]:
    """Values of a gauge of this process, summed by one of its labels."""
    found: dict[str, float] = {}
    for sample in next(iter(gauge.collect())).samples:
        key = sample.labels.get(label, "")
        found[key] = found.get(key, 0.0) + sample.value
    return found
