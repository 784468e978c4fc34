"""Two looks at a process → how it does: rates, latencies, what waits. Knows no terminal and no socket."""

from collections.abc import Mapping
from dataclasses import dataclass

from cli.top.scrape import Scrape

DURATION, CACHE = "grpc_server_call_duration_seconds", "maas_cache_lookups_total"
OURS = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED")
REMEMBERED = ("hit-l1", "hit-l2", "coalesced")
# Streams that last as long as somebody watches say nothing of latency.
LASTING = ("Watch", "ServerReflectionInfo", "Exchange")


@dataclass(frozen=True, slots=True)
class Figures:
    """Between two looks; None = nothing to tell. Seconds, bytes, shares of 1."""

    calls_per_s: float
    failing: float | None
    p50_s: float | None
    p99_s: float | None
    inside: float
    queued: float
    cpu: float
    memory_bytes: float
    hits: float | None
    tokens_per_s: float | None
    first_token_s: float | None
    kv_held: float | None
    sessions: float | None


def figures(before: Scrape, now: Scrape) -> Figures:
    """Counters by what was added between the two, gauges as they stand."""
    seconds = max(now.at - before.at, 1e-9)

    def added(name: str, **labels: str) -> float:
        # A process that began anew counts from nothing.
        return max(0.0, now.sum(name, **labels) - before.sum(name, **labels))

    calls = added(f"{DURATION}_count")
    failed = sum(added(f"{DURATION}_count", grpc_status=status) for status in OURS)
    looked = added(CACHE) - added(CACHE, outcome="bypass")
    remembered = sum(added(CACHE, outcome=outcome) for outcome in REMEMBERED)
    durations = _buckets(before, now, DURATION)
    blocks = now.sum("maas_generation_kv_blocks")
    return Figures(
        calls_per_s=calls / seconds,
        failing=failed / calls if calls else None,
        p50_s=quantile(0.5, durations),
        p99_s=quantile(0.99, durations),
        inside=now.sum("maas_calls_inside"),
        queued=now.sum("maas_queue_depth") + now.sum("maas_backend_calls", state="queued"),
        cpu=added("process_cpu_seconds_total") / seconds,
        memory_bytes=now.sum("process_resident_memory_bytes"),
        hits=remembered / looked if looked else None,
        tokens_per_s=added("maas_tokens_total", kind="completion") / seconds if blocks else None,
        first_token_s=quantile(0.5, _buckets(before, now, "maas_time_to_first_token_seconds")),
        kv_held=now.sum("maas_generation_kv_blocks", state="held") / blocks if blocks else None,
        sessions=now.sum("maas_sessions") if "maas_session_checkpoints_total" in now.samples else None,
    )


def _buckets(before: Scrape, now: Scrape, name: str) -> Mapping[float, float]:
    """Upper bound → how many were added up to it."""
    found: dict[float, float] = {}
    for sign, scrape in ((1, now), (-1, before)):
        for labels, value in scrape.of(f"{name}_bucket"):
            if not any(word in labels.get("grpc_method", "") for word in LASTING):
                bound = float(labels["le"])
                found[bound] = found.get(bound, 0.0) + sign * value
    return found


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """As histogram_quantile of Prometheus: linear within a bucket, the last bound for what lies beyond it."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, lower, below = q * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            inside = buckets[bound] - below
            return lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / inside
        lower, below = bound, buckets[bound]
    return lower
