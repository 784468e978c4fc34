"""What a micro-batcher tells of itself → the metrics table. Knows no items."""

from collections.abc import Sequence

from services.runtime.metrics import Metrics


class QueueMetrics:
    """The batcher's observer: depth, skips, waits and batch sizes under the label `queue`."""

    def __init__(self, metrics: Metrics, queue: str) -> None:
        self._metrics, self._queue = metrics, queue

    def queued(self, depth: int) -> None:
        """Items waiting now."""
        self._metrics.queue_depth.labels(self._queue).set(depth)

    def skipped(self, why: str) -> None:
        """One item dropped before compute: `cancelled` or `deadline`."""
        self._metrics.skipped.labels(self._queue, why).inc()

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None:
        """One batch ended: each item's wait and the batch's compute, seconds."""
        self._metrics.batch_size.labels(self._queue).observe(len(waits_s))
        self._metrics.compute_seconds.labels(self._queue).observe(compute_s)
        for wait in waits_s:
            self._metrics.queue_seconds.labels(self._queue).observe(wait)
