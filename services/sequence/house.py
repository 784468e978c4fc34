"""How many sessions there may be at once, in all and of one tenant. Pure: knows no session."""

from collections import Counter
from collections.abc import Callable

from services.runtime.errors import Overloaded


class House:
    """`most_of_one` = 0: a tenant may have all; callers of no tenant always may."""

    def __init__(self, most: int, most_of_one: int = 0) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._all, self._of = 0, Counter[str]()

    def enter(self, tenant: str, retry_after_s: Callable[[], float]) -> None:
        """One more. Raises Overloaded naming the limit."""
        own = self._most_of_one if tenant else 0
        if own and self._of[tenant] >= own:
            raise _full(own, "of one tenant", "SESSION_LIMIT_OF_ONE", retry_after_s())
        if self._all >= self._most:
            raise _full(self._most, "of this server", "SESSION_LIMIT", retry_after_s())
        self._all += 1
        self._of[tenant] += 1

    def leave(self, tenant: str) -> None:
        """One that entered is over."""
        self._all -= 1
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant]


def _full(limit: int, whose: str, reason: str, retry_after_s: float) -> Overloaded:
    return Overloaded(
        f"{limit} sessions are open, the limit {whose}; close some or retry later",
        reason=reason,
        metadata={"limit": str(limit)},
        retry_after_s=retry_after_s,
    )
