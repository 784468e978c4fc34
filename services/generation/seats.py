"""How many sequences a backend has accepted: who is let in, how often their readers wake. Knows no engine."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.admission import Admission
from services.runtime.errors import Unavailable

RETRY_AFTER_S = 1.0
GAP_A_STREAM_S, WIDEST_GAP_S = 0.003, 0.12


class Seats:
    """Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._admission = Admission(limit, "sequences are running or waiting")
        self.closing = False

    @contextmanager
    def take(self, tenant: str, count: int) -> Iterator[None]:
        """`count` sequences, for the length of the block. Raises Overloaded if there is no room for them,
        Unavailable once closing."""
        if self.closing:
            raise unloaded()
        with self._admission.admit(tenant, count):
            yield

    def gap(self) -> float:
        """Seconds between two messages of a stream: a message costs the loop a part of a millisecond."""
        return min(GAP_A_STREAM_S * self._admission.inside, WIDEST_GAP_S)


def unloaded() -> Unavailable:
    """What a sequence ends with when its model goes."""
    return Unavailable("the model is being unloaded; retry", retry_after_s=RETRY_AFTER_S)


def never() -> float:
    """The gap of a reader who wants nothing before the end."""
    return math.inf
