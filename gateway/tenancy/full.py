"""Who had no room a moment ago, and until when there is none: meanwhile it is refused without being counted anew.

Exact: what a tenant has used falls no faster than its windows move on, and others who let it in only add to that.
Where somebody takes counts away by hand, or Redis comes back with others, it is seen a second later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.tenancy.windows import Window

LONGEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """By which window, and for how many seconds more."""

    window: Window
    wait_s: float


@dataclass(frozen=True, slots=True)
class _Full:
    windows: tuple[Window, ...]
    refusal: Refusal
    began_s: float


@dataclass(slots=True)
class Full:
    """By tenant; other windows than it was judged by (a new plan) let it in to be counted."""

    clock: Callable[[], float] = time.monotonic
    _tenants: dict[str, _Full] = field(default_factory=dict)

    def note(self, tenant: str, windows: tuple[Window, ...], refusal: Refusal) -> None:
        self._tenants[tenant] = _Full(windows, refusal, self.clock())

    def still(self, tenant: str, windows: tuple[Window, ...]) -> Refusal | None:
        """None: it may have room."""
        one = self._tenants.get(tenant)
        if one is None or one.windows != windows or self._over(one):
            return None
        return Refusal(one.refusal.window, one.refusal.wait_s - (self.clock() - one.began_s))

    def forget(self) -> None:
        """Drops those whose time is over."""
        for tenant, one in list(self._tenants.items()):
            if self._over(one):
                del self._tenants[tenant]

    def _over(self, one: _Full) -> bool:
        return self.clock() - one.began_s >= min(one.refusal.wait_s, LONGEST_S)
