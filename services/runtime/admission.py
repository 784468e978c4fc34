"""Bounded admission: how much may be inside at once, and how much of it is one tenant's. Refuses, never queues."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from services.runtime.errors import Overloaded

RETRY_AFTER_S = 1.0
REMEMBERED_S = 5.0  # long enough for whoever was turned away to try again


class Admission:
    """Counts what is inside; `limit` of them fit, all of one tenant's if nobody else comes.

    Once a tenant was turned away that had less than an equal part, nobody's part may grow beyond that for a while.
    """

    def __init__(
        self, limit: int, what: str = "calls are in progress", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self.inside = 0
        self.refused = 0
        self._what = what
        self._clock = clock
        self._held: dict[str, int] = {}  # places by tenant, none with zero
        self._turned_away: dict[str, float] = {}  # until when each is remembered

    def admit(self, tenant: str = "", count: int = 1) -> AbstractContextManager[None]:
        """Holds `count` places for the length of the block; entering raises Overloaded without so many."""
        return _Places(self, tenant, count)

    def take(self, tenant: str, count: int) -> None:
        """`count` places for `tenant`, until they are given back. Raises Overloaded when there are not so many."""
        self._check(tenant, count)
        self.inside += count
        self._held[tenant] = self._held.get(tenant, 0) + count

    def give_back(self, tenant: str, count: int) -> None:
        self.inside -= count
        self._held[tenant] -= count
        if not self._held[tenant]:
            del self._held[tenant]

    def _check(self, tenant: str, count: int) -> None:
        wanted = self._held.get(tenant, 0) + count
        if self.inside + count > self.limit:
            self._remember(tenant, wanted)
            raise self._overloaded(f"{self.inside} {self._what}, the limit is {self.limit}", "QUEUE_FULL")
        if wanted > count and self._turned_away and wanted > (part := self._part(tenant)):
            raise self._overloaded(
                f"{wanted - count} {self._what} for this tenant, whose part is {part} while others wait",
                "TENANT_PART_FULL",
            )

    def _remember(self, tenant: str, wanted: int) -> None:
        if wanted <= self.limit // len({tenant, *self._held}):
            self._turned_away[tenant] = self._clock() + REMEMBERED_S

    def _part(self, tenant: str) -> int:
        """Equal parts for all who are inside or wait to be; everything for whom nobody waits."""
        now = self._clock()
        self._turned_away = {other: until for other, until in self._turned_away.items() if until > now}
        if not self._turned_away.keys() - {tenant}:
            return self.limit
        return self.limit // len({tenant, *self._held, *self._turned_away})

    def _overloaded(self, why: str, reason: str) -> Overloaded:
        self.refused += 1
        return Overloaded(
            f"{why}; retry later",
            reason=reason,
            metadata={"limit": str(self.limit)},
            retry_after_s=RETRY_AFTER_S,
        )


class _Places(AbstractContextManager[None]):
    """Places held for the length of a block. A class, as a generator costs every call twice as much."""

    __slots__ = ("_admission", "_count", "_tenant")

    def __init__(self, admission: Admission, tenant: str, count: int) -> None:
        self._admission, self._tenant, self._count = admission, tenant, count

    def __enter__(self) -> None:
        self._admission.take(self._tenant, self._count)

    def __exit__(self, *error: object) -> None:
        self._admission.give_back(self._tenant, self._count)
