"""Which of two ways to compute is quicker just now: one thread, or several. Knows no runner."""

from collections import deque
from statistics import median

NARROW, WIDE = 0, 1
# Calls of the better way between two tries of the other: few after a change, twice as many after each try in vain.
SOON, SELDOM = 4, 32
# Calls of a try: the first one of a way that has rested finds its weights in no cache.
TRIES = 3
# Several threads that take so much longer than they once did wait for somebody else's core.
SLOWED = 1.3


class Quicker:
    """Compares the medians of each way's last times; several threads at their best are left alone."""

    def __init__(self) -> None:
        self._took: tuple[deque[float], deque[float]] = (deque(maxlen=TRIES), deque(maxlen=TRIES))
        self._best, self._pause, self._least = WIDE, SOON, float("inf")
        # Calls until the next try; below zero, how many of a try began.
        self._left = TRIES

    def way(self) -> int:
        """NARROW or WIDE: how the next call should go."""
        if not self._left and self._at_its_best():
            self._left = SOON
        self._left -= 1
        return self._best if self._left >= 0 else 1 - self._best

    def took(self, way: int, seconds: float) -> None:
        """How long a call took that went `way`."""
        self._took[way].append(seconds)
        if -TRIES < self._left < 0:
            return
        self._least = min(self._least, self._median(WIDE))
        if self._median(1 - self._best) < self._median(self._best):
            self._best, self._pause, self._left = 1 - self._best, SOON, SOON
        elif self._left < 0:
            self._pause = self._left = min(2 * self._pause, SELDOM)

    def _at_its_best(self) -> bool:
        tried = len(self._took[NARROW]) == TRIES
        return tried and self._best == WIDE and self._median(WIDE) < SLOWED * self._least

    def _median(self, way: int) -> float:
        return median(self._took[way]) if self._took[way] else float("inf")
