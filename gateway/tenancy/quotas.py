"""Who had enough: every call is let in or refused by its tenant's quotas. Knows no message and no price.

Requests are counted as they come; tokens and compute time when they are known, so a tenant may overdraw by what it
has in progress and then waits until that is paid off.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from gateway.tenancy.counts import LocalCounts, SharedCounts, Taken
from gateway.tenancy.full import Full, Refusal
from gateway.tenancy.plans import Plans
from gateway.tenancy.windows import Window
from services.runtime.errors import QuotaExceeded
from services.runtime.redis_link import NoAnswer

# What calls came to is told to Redis with the tenant's next call, or after this long.
TELL_EVERY_S = 0.2
LONGEST_WAIT_S = 2 * 86400.0

NOTHING: defaultdict[str, float] = defaultdict(float)

Refused = Callable[[str, str], None]


class Quotas:
    """`shared` None: this process counts alone."""

    def __init__(
        self,
        plans: Callable[[], Plans],
        shared: SharedCounts | None,
        local: LocalCounts,
        refused: Refused,
        full: Full | None = None,
    ) -> None:
        """`refused` is told of each refusal: tenant and kind."""
        self._plans, self._shared, self._local, self._refused = plans, shared, local, refused
        self._owed: dict[str, defaultdict[str, float]] = {}
        self._full = full or Full()
        self._telling: asyncio.Task[None] | None = None

    async def admit(self, tenant: str) -> None:
        """Counts a call. Raises QuotaExceeded naming the quota and when there is room again."""
        windows = self._plans().of(tenant)
        if not windows:
            return
        refusal = self._full.still(tenant, windows)
        if refusal is None:
            taken, share = await self._take(tenant, windows)
            if taken.fits:
                return
            refusal = _longest(windows, taken, share)
            self._full.note(tenant, windows, refusal)
        raise self._exceeded(tenant, refusal)

    def charge(self, tenant: str, kind: str, amount: float) -> None:
        """What a call came to, beside itself."""
        if amount and any(window.kind == kind for window in self._plans().of(tenant)):
            self._owed.setdefault(tenant, defaultdict(float))[kind] += amount

    async def start(self) -> None:
        self._telling = asyncio.create_task(self._tell_again())

    async def close(self) -> None:
        """Tells what is still owed."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        await self.tell()

    async def tell(self) -> None:
        """Charges what calls came to whose tenants have not called since."""
        for tenant, owed in list(self._owed.items()):
            if self._shared is None:
                self._local.take(tenant, self._plans().of(tenant), self._owed.pop(tenant), calls=0)
            elif not await self._told(self._shared, tenant, self._owed.pop(tenant)):
                # Kept for the next time.
                for kind, amount in owed.items():
                    self.charge(tenant, kind, amount)
        self._local.forget()
        self._full.forget()

    async def _told(self, shared: SharedCounts, tenant: str, owed: Mapping[str, float]) -> bool:
        try:
            await shared.take(tenant, self._plans().of(tenant), owed, calls=0)
        except NoAnswer:
            return False
        return True

    async def _tell_again(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            await self.tell()

    async def _take(self, tenant: str, windows: tuple[Window, ...]) -> tuple[Taken, float]:
        """And which share of each limit was granted."""
        owed: Mapping[str, float] = self._owed.pop(tenant, NOTHING)
        if self._shared is not None:
            try:
                return await self._shared.take(tenant, windows, owed), 1.0
            except NoAnswer:
                pass
        return self._local.take(tenant, windows, owed), self._local.share

    def _exceeded(self, tenant: str, refusal: Refusal) -> QuotaExceeded:
        self._refused(tenant, refusal.window.kind)
        wait_s = min(max(refusal.wait_s, 0.001), LONGEST_WAIT_S)
        return QuotaExceeded(tenant, refusal.window.told(), wait_s)


def _longest(windows: tuple[Window, ...], taken: Taken, share: float) -> Refusal:
    """Of the windows without room, the one that has none for longest."""
    full = [
        Refusal(window, count.wait_s(window, taken.at_s, share))
        for window, count in zip(windows, taken.counts, strict=True)
        if not count.fits(window, taken.at_s, share)
    ]
    # Redis saw no room and our own arithmetic does: by the last digit of a number.
    return max(full, key=lambda one: one.wait_s, default=Refusal(windows[0], 0.0))
