"""Bounded admission: how much may be inside at once, and how much of it is one tenant's. Refuses, never queues."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from services.runtime.errors import Overloaded

RETRY_AFTER_S = 1.0
REMEMBERED_S = 5.0  # long enough for whoever was turned away to try again


class Full(NamedTuple):
    """Why there is no place: in a word, and in full."""

    reason: str
    why: str


class Admission:
    """Counts what is inside; `limit` of them fit, all of one tenant's if nobody else comes.

    Once a tenant was turned away that had less than an equal part, nobody's part may grow beyond that for a while.
    Calls that may fill less than the others leave the rest to these, and hold them to no part when turned away.
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
        # Who was turned away, from how many places in all → until when that is remembered.
        self._turned_away: dict[tuple[str, int], float] = {}

    def admit(self, tenant: str = "", count: int = 1) -> AbstractContextManager[None]:
        """Holds `count` places for the length of the block; entering raises Overloaded without so many."""
        return _Places(self, tenant, count)

    def take(self, tenant: str, count: int) -> None:
        """`count` places for `tenant`, until they are given back. Raises Overloaded when there are not so many."""
        if (full := self.full(tenant, count, self.limit)) is not None:
            self.refused += 1
            raise Overloaded(
                f"{full.why}; retry later",
                reason=full.reason,
                metadata={"limit": str(self.limit)},
                retry_after_s=RETRY_AFTER_S,
            )
        self.hold(tenant, count)

    def hold(self, tenant: str, count: int) -> None:
        """`count` places for `tenant`, whether there are so many or not."""
        self.inside += count
        self._held[tenant] = self._held.get(tenant, 0) + count

    def give_back(self, tenant: str, count: int) -> None:
        self.inside -= count
        self._held[tenant] -= count
        if not self._held[tenant]:
            del self._held[tenant]

    def full(self, tenant: str, count: int, most: int) -> Full | None:
        """Why there are not `count` places for calls of `tenant` that may fill `most`; None: there are."""
        held = self._held.get(tenant, 0)
        if self.inside + count > most:
            self._remember(tenant, held + count, most)
            return Full("QUEUE_FULL", f"{self.inside} {self._what}, the limit is {most}")
        if held and self._turned_away and held + count > (part := self._part(tenant, most)):
            why = f"{held} {self._what} for this tenant, whose part is {part} while others wait"
            return Full("TENANT_PART_FULL", why)
        return None

    def _remember(self, tenant: str, wanted: int, most: int) -> None:
        if wanted <= most // len({tenant, *self._held}):
            self._turned_away[tenant, most] = self._clock() + REMEMBERED_S

    def _part(self, tenant: str, most: int) -> int:
        """Equal parts for all who are inside or wait to be; everything for whom nobody waits."""
        now = self._clock()
        self._turned_away = {one: until for one, until in self._turned_away.items() if until > now}
        waiting = {other for other, theirs in self._turned_away if theirs >= most}
        return most // len({tenant, *self._held, *waiting}) if waiting - {tenant} else most


class _Places(AbstractContextManager[None]):
    """Places held for the length of a block. A class, as a generator costs every call twice as much."""

    __slots__ = ("_admission", "_count", "_tenant")

    def __init__(self, admission: Admission, tenant: str, count: int) -> None:
        self._admission, self._tenant, self._count = admission, tenant, count

    def __enter__(self) -> None:
        self._admission.take(self._tenant, self._count)

    def __exit__(self, *error: object) -> None:
        self._admission.give_back(self._tenant, self._count)
