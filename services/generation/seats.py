"""How many sequences a backend has accepted: who is let in, how often their readers wake. Knows no engine."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.errors import Overloaded, Unavailable

RETRY_AFTER_S = 1.0
GAP_A_STREAM_S, WIDEST_GAP_S = 0.001, 0.05


class Seats:
    """Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self.closing = False

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """`count` sequences, for the length of the block. Raises Overloaded if there is no room for them,
        Unavailable once closing."""
        self._admit(count)
        self._taken += count
        try:
            yield
        finally:
            self._taken -= count

    def gap(self) -> float:
        """Seconds between two messages of a stream: a message costs the loop a part of a millisecond."""
        return min(GAP_A_STREAM_S * self._taken, WIDEST_GAP_S)

    def _admit(self, count: int) -> None:
        if self.closing:
            raise unloaded()
        if self._taken + count > self._limit:
            raise Overloaded(
                f"{self._taken} sequences are running or waiting, the limit is {self._limit}; retry later",
                reason="QUEUE_FULL",
                metadata={"limit": str(self._limit)},
                retry_after_s=RETRY_AFTER_S,
            )


def unloaded() -> Unavailable:
    """What a sequence ends with when its model goes."""
    return Unavailable("the model is being unloaded; retry", retry_after_s=RETRY_AFTER_S)


def never() -> float:
    """The gap of a reader who wants nothing before the end."""
    return math.inf
