"""The load of this process as callers are told who ask for it: an ORCA report (gRFC A51). Chooses no replica."""

import os
import time
from collections.abc import Callable

from maas.internal.v1.orca_pb2 import OrcaLoadReport
from services.runtime.metrics import Metrics
from services.runtime.telemetry.process import resident

TRAILER = "endpoint-load-metrics-bin"
# By which callers ask, as other servers know it; "bin" is what there is.
ASKED, FORM = "endpoint-load-metrics-format", "bin"
FRESH_S, WINDOW_S = 0.1, 1.0
OURS = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED")
Totals = tuple[float, float, int, int]


class LoadReport:
    """Made when it is asked for, at most ten times a second; rates are of the last second or two."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._clock = metrics, clock
        self._cores = len(os.sched_getaffinity(0))
        self._memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._made_at, self._made = float("-inf"), b""
        self._before = self._since = self._totals()

    def data(self) -> bytes:
        now = self._clock()
        if now - self._made_at >= FRESH_S:
            self._made_at, self._made = now, self._report().SerializeToString()
        return self._made

    def _report(self) -> OrcaLoadReport:
        now = self._totals()
        if now[0] - self._since[0] >= WINDOW_S:
            self._before, self._since = self._since, now
        passed, cpu, ended, failed = (a - b for a, b in zip(now, self._before, strict=True))
        passed = max(passed, 1e-3)
        report = OrcaLoadReport(
            cpu_utilization=cpu / passed / self._cores,
            mem_utilization=resident() / self._memory,
            rps_fractional=ended / passed,
            eps=failed / passed,
        )
        inside, limit, queued, kv = self._metrics.standing()
        report.application_utilization = inside / limit if limit else 0.0
        report.named_metrics["queue_depth"] = queued
        if kv is not None:
            report.utilization["kv_cache"] = kv
        return report

    def _totals(self) -> Totals:
        """Now, CPU seconds, calls that ended, those that failed for reasons of ours."""
        calls = self._metrics.methods.values()
        failed = sum(sum(one.ends[end].seconds.counts) for one in calls for end in OURS if end in one.ends)
        return self._clock(), time.process_time(), sum(one.ended for one in calls), failed
