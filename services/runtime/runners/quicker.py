"""Which of two ways to compute is quicker just now: found by trying both, over and over. Knows no runner."""

from collections import deque
from statistics import median

REMEMBERED, AT_FIRST, AGAIN = 5, 3, 32


class Quicker:
    """Compares the medians of each way's last times; one call in `AGAIN` goes the other way, as that may change
    with what else the machine does."""

    def __init__(self) -> None:
        self._took: tuple[deque[float], deque[float]] = (deque(maxlen=REMEMBERED), deque(maxlen=REMEMBERED))
        self._best, self._calls = 0, 0

    def way(self) -> int:
        """0 or 1: how the next call should go."""
        self._calls += 1
        seldom = min((0, 1), key=lambda way: len(self._took[way]))
        if len(self._took[seldom]) < AT_FIRST:
            return seldom
        return self._best if self._calls % AGAIN else 1 - self._best

    def took(self, way: int, seconds: float) -> None:
        self._took[way].append(seconds)
        if all(self._took):
            self._best = int(median(self._took[1]) < median(self._took[0]))
