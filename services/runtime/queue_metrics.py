"""What a micro-batcher tells of itself → the metrics table. Knows no items."""

from collections.abc import Sequence

from services.runtime.metrics import Metrics


class QueueMetrics:
    """The batcher's observer: depth, skips, waits and batch sizes under the label `queue`."""

    def __init__(self, metrics: Metrics, queue: str) -> None:
        # Looked up once: finding an instrument by its labels costs more than using it.
        self._depth = metrics.queue_depth.labels(queue)
        self._size = metrics.batch_size.labels(queue)
        self._compute = metrics.compute_seconds.labels(queue)
        self._wait = metrics.queue_seconds.labels(queue)
        self._skipped, self._queue = metrics.skipped, queue

    def queued(self, depth: int) -> None:
        """Items waiting now."""
        self._depth.set(depth)

    def skipped(self, why: str) -> None:
        """One item dropped before compute: `cancelled` or `deadline`."""
        self._skipped.labels(self._queue, why).inc()

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None:
        """One batch ended: each item's wait and the batch's compute, seconds."""
        self._size.observe(len(waits_s))
        self._compute.observe(compute_s)
        for wait in waits_s:
            self._wait.observe(wait)
