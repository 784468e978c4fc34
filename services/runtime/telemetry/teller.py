"""Plain numbers → instruments, by what was added since the last look. Knows no metric by name."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import RestrictedRegistry
from prometheus_client.samples import Exemplar

from services.runtime.telemetry.calls import Calls, Tally


class Followed:
    """A tally and the instrument that tells it, by parts of the pinned client: it takes values one by one."""

    def __init__(self, tally: Tally, child: Histogram) -> None:
        self._tally, self._child = tally, child
        self._counts, self._total = [0] * len(tally.counts), 0.0

    def tell(self) -> None:
        counts, total = list(self._tally.counts), self._tally.total
        for bucket, now, before in zip(self._child._buckets, counts, self._counts, strict=True):
            if now > before:
                bucket.inc(now - before)
        for bucket_number, (trace_id, value, when) in list(self._tally.examples.items()):
            self._child._buckets[bucket_number].set_exemplar(Exemplar({"trace_id": trace_id}, value, when))
        self._child._sum.inc(total - self._total)
        self._counts, self._total = counts, total


class CallTeller:
    """Tells calls by method. `sizes`: sent and received; empty where they are not told."""

    def __init__(self, started: Counter | None, seconds: Histogram, sizes: tuple[Histogram, ...] = ()) -> None:
        self._started, self._seconds, self._sizes = started, seconds, sizes
        self._begun: dict[tuple[str, ...], int] = {}
        self._followed: dict[tuple[str, ...], list[Followed]] = {}

    def tell(self, calls: Calls, *labels: str) -> None:
        """`labels` are those of all three, before the status."""
        if self._started is not None and calls.begun:
            begun = calls.begun
            self._started.labels(*labels).inc(begun - self._begun.get(labels, 0))
            self._begun[labels] = begun
        for status, ends in list(calls.ends.items()):
            if (*labels, status) not in self._followed:
                tallies = (ends.seconds, ends.sent, ends.received)
                told = (self._seconds, *self._sizes)
                self._followed[*labels, status] = [
                    Followed(tally, one.labels(*labels, status)) for tally, one in zip(tallies, told, strict=False)
                ]
            for one in self._followed[*labels, status]:
                one.tell()


class Registry(CollectorRegistry):
    """Has the news told before anybody looks."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def collect(self) -> Iterable[Metric]:
        self._tell()
        return super().collect()

    def restricted_registry(self, names: Iterable[str]) -> RestrictedRegistry:
        self._tell()
        return super().restricted_registry(names)
