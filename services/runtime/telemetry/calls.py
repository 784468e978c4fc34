"""What the calls of a method were, in plain numbers: an instrument costs five times as much.

Knows no Prometheus.
"""

from bisect import bisect_left
from collections.abc import Sequence
from time import time

# gRFC A66: seconds.
LATENCY_BUCKETS = (
    *(0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4),
    *(0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100),
)
# gRFC A66: bytes.
SIZE_BUCKETS = (0, *(1024 * n for n in (1, 2, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)))


class Tally:
    """A histogram: `counts[i]` of values up to `bounds[i]` and over the one before, the last of those over all."""

    __slots__ = ("bounds", "counts", "examples", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0
        # By bucket the last one that can be looked up: its trace's id, its value, when (seconds since the epoch).
        self.examples: dict[int, tuple[str, float, float]] = {}

    def add(self, value: float, trace_id: str = "") -> None:
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if trace_id:
            self.examples[bucket] = (trace_id, value, time())


class Ends:
    """Calls that ended alike."""

    __slots__ = ("received", "seconds", "sent")

    def __init__(self) -> None:
        self.seconds = Tally(LATENCY_BUCKETS)
        self.sent, self.received = Tally(SIZE_BUCKETS), Tally(SIZE_BUCKETS)


class Calls:
    """Numbers only grow, and one thread writes them: another may read at any time."""

    __slots__ = ("begun", "ended", "ends")

    def __init__(self) -> None:
        self.begun = self.ended = 0
        # By the name of the status.
        self.ends: dict[str, Ends] = {}

    def begin(self) -> None:
        self.begun += 1

    def end(self, status: str, seconds: float, sent: int, received: int, trace_id: str = "") -> None:
        """`sent`, `received`: bytes of all messages, as they are before they are packed; `trace_id`: of a call
        whose trace is kept."""
        self.ended += 1
        ends = self.ends.get(status)
        if ends is None:
            ends = self.ends[status] = Ends()
        ends.seconds.add(seconds, trace_id)
        ends.sent.add(sent)
        ends.received.add(received)
