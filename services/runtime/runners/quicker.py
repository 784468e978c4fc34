"""Which of two ways to compute is quicker just now: found by trying both, over and over. Knows no runner."""

from collections import deque
from statistics import median

# Calls of the better way between two tries of the other: few after a change, twice as many after each try in vain.
SOON, SELDOM = 4, 32
REMEMBERED = 3


class Quicker:
    """Compares the medians of each way's last times. A try that went well is repeated at once, and two decide."""

    def __init__(self) -> None:
        self._took: tuple[deque[float], deque[float]] = (deque(maxlen=REMEMBERED), deque(maxlen=REMEMBERED))
        self._best, self._pause, self._left = 0, SOON, 1

    def way(self) -> int:
        """0 or 1: how the next call should go."""
        if not self._left:
            return 1 - self._best
        self._left -= 1
        return self._best

    def took(self, way: int, seconds: float) -> None:
        """How long a call took that went `way`."""
        self._took[way].append(seconds)
        other, usual = self._median(1 - self._best), self._median(self._best)
        if other < usual:
            self._best, self._pause, self._left = 1 - self._best, SOON, SOON
        elif way != self._best:
            self._tried(seconds < usual)

    def _tried(self, well: bool) -> None:
        self._pause = self._pause if well else min(2 * self._pause, SELDOM)
        self._left = 0 if well else self._pause

    def _median(self, way: int) -> float:
        return median(self._took[way]) if self._took[way] else float("inf")
