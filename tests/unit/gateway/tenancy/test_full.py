"""Who was refused is refused again without being counted anew, and nobody who would have been let in."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.tenancy.counts import LocalCounts, Owed, Taken
from gateway.tenancy.full import LONGEST_S, Full, Refusal
from gateway.tenancy.quotas import Quotas
from gateway.tenancy.windows import REQUESTS, TOKENS, Window
from services.runtime.errors import QuotaExceeded
from tests.clock import Clock

SECOND, MINUTE = Window(REQUESTS, 20, 1), Window(TOKENS, 3000, 60)


@dataclass(frozen=True)
class Fixed:
    """One plan for all."""

    windows: tuple[Window, ...] = (SECOND, MINUTE)

    def of(self, tenant: str) -> tuple[Window, ...]:
        return self.windows


@dataclass
class Asked(LocalCounts):
    """Counts how often it is asked about a call."""

    asked: int = 0

    def take(self, tenant: str, windows: Sequence[Window], owed: Owed, calls: int = 1) -> Taken:
        self.asked += calls
        return LocalCounts.take(self, tenant, windows, owed, calls)


@dataclass
class Side:
    """Quotas on a clock that both sides share."""

    clock: Clock
    full: Full
    local: Asked = field(init=False)
    quotas: Quotas = field(init=False)

    def __post_init__(self) -> None:
        self.local = Asked(clock=self.clock)
        self.quotas = Quotas(lambda: Fixed(), None, self.local, lambda tenant, kind: None, self.full)  # type: ignore[arg-type,return-value]

    async def lets_in(self, tenant: str, owed: Mapping[str, float]) -> bool:
        for kind, amount in owed.items():
            self.quotas.charge(tenant, kind, amount)
        try:
            await self.quotas.admit(tenant)
        except QuotaExceeded:
            return False
        return True


class Forgetful(Full):
    """Remembers nobody."""

    def still(self, tenant: str, windows: tuple[Window, ...]) -> Refusal | None:
        return None


async def test_the_same_are_let_in_and_a_flood_is_hardly_counted() -> None:
    draw, clock = random.Random(4), Clock()
    clock.now = 1e6
    exact, quick = Side(clock, Forgetful(clock)), Side(clock, Full(clock))
    let_in = 0
    for _ in range(20_000):
        clock.now += draw.expovariate(400)
        tenant = draw.choice("aab")
        owed = {TOKENS: draw.uniform(0, 10)} if draw.random() < 0.05 else {}
        both = [await side.lets_in(tenant, owed) for side in (exact, quick)]
        assert both[0] == both[1]
        let_in += both[0]
    assert let_in > 500 and exact.local.asked == 20_000 and quick.local.asked < 0.3 * exact.local.asked


def test_another_plan_is_judged_anew_and_no_refusal_lasts_unseen() -> None:
    clock = Clock()
    full = Full(clock)
    full.note("t", (MINUTE,), Refusal(MINUTE, 30.0))
    assert full.still("t", (SECOND,)) is None and full.still("u", (MINUTE,)) is None
    clock.now += 0.5 * LONGEST_S
    told = full.still("t", (MINUTE,))
    assert told is not None and told.wait_s == pytest.approx(30 - 0.5 * LONGEST_S)
    clock.now += LONGEST_S
    assert full.still("t", (MINUTE,)) is None
    full.forget()
    clock.now -= LONGEST_S
    assert full.still("t", (MINUTE,)) is None
