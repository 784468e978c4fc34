"""Bounded admission: how many calls may be inside at once. Refuses at the door, never queues."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.errors import Overloaded

RETRY_AFTER_S = 1.0


class Admission:
    """Counts the calls inside; `limit` of them fit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self.refused = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds one place for the length of a call; raises Overloaded when all are taken."""
        if self.inside >= self.limit:
            self.refused += 1
            raise Overloaded(
                f"{self.limit} calls are in progress, the limit of this server; retry later",
                reason="QUEUE_FULL",
                metadata={"limit": str(self.limit)},
                retry_after_s=RETRY_AFTER_S,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
