"""How long calls of a kind take: recent quantiles, and the least ever seen of late. Pure."""

from collections import deque
from math import inf

# Of fewer, a median is a guess, or a 95th percentile. After every REVIEW answers they are looked at again.
LEAST, LEAST_TAIL, KEPT, REVIEW = 8, 32, 128, 8
# Past that nothing is known of now: the next calls find out.
FRESH_S = 1.0


class Recent:
    """The latest KEPT answers of a kind, seconds. Quantiles are None while too few are known."""

    __slots__ = ("_before", "_count", "_kept", "_least", "_seen_at", "p50", "p95")

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)
        self._count = 0
        self._seen_at = -inf
        self._least = self._before = inf
        self.p50: float | None = None
        self.p95: float | None = None

    def add(self, seconds: float, now: float) -> None:
        """One answer, at `now`."""
        self._kept.append(seconds)
        self._seen_at = now
        self._least = min(self._least, seconds)
        self._count += 1
        if self._count >= LEAST and self._count % REVIEW == 0:
            ordered = sorted(self._kept)
            self.p50 = ordered[len(ordered) // 2]
            if len(ordered) >= LEAST_TAIL:
                self.p95 = ordered[len(ordered) * 95 // 100]

    def usual(self, now: float) -> float:
        """What half of the calls take at most, as far as it is known of late; else zero."""
        return self.p50 if self.p50 is not None and now - self._seen_at < FRESH_S else 0.0

    def tail(self, now: float) -> float:
        """What nearly all of the calls take at most, as far as it is known of late; else zero."""
        return max(self.usual(now), self.p95 or 0.0) if now - self._seen_at < FRESH_S else 0.0

    @property
    def least(self) -> float:
        """The shortest since the last but one `turn`: what an answer takes that need not wait."""
        return min(self._least, self._before)

    def turn(self) -> None:
        """A new age begins: what was the shortest before the last one is forgotten."""
        self._before, self._least = self._least, inf


class Latencies:
    """By kind of call: one method, requests of about one size, as work goes by size (within a factor of four)."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, int], Recent] = {}

    def of(self, path: str, size: int) -> Recent:
        """`size`: bytes of the request."""
        key = (path, size.bit_length() // 2)
        found = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = Recent()
        return found

    def turn(self) -> None:
        """For all kinds."""
        for recent in self._kinds.values():
            recent.turn()
