"""Which calls are traced: as the caller says, else by chance, and never more than so many a second. Pure."""

import random
import time
from collections.abc import Callable

# Hexadecimal digits of flags whose lowest bit, "sampled", is set.
_ODD = frozenset("13579bdf")


class Bucket:
    """Holds one second's worth of permits, filled evenly."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most = per_s, max(1.0, per_s)
        self._left, self._clock, self._seen = self._most, clock, clock()

    def take(self) -> bool:
        """Whether there was one."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._seen) * self._per_s)
        self._seen = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Sampler:
    """`ratio` of the calls whose callers say nothing; of the others those whose callers ask for it."""

    def __init__(self, ratio: float, bucket: Bucket, uniform: Callable[[], float] = random.random) -> None:
        self._ratio, self._bucket, self._uniform = ratio, bucket, uniform

    def wants(self, traceparent: str) -> bool:
        """Whether a call that came with this header, "" = with none, is one to trace if there is a permit."""
        return traceparent[-1] in _ODD if traceparent else self._uniform() < self._ratio

    def permits(self) -> bool:
        """Takes a permit."""
        return self._bucket.take()
