"""What each tenant has used of each model: added up here, kept in Redis day by day. Knows no price."""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from gateway.cache_key import tag
from gateway.tenancy.told import Cost
from services.runtime.redis_link import NoAnswer, RedisLink

PREFIX = "maas:v1:usage"
FLUSH_EVERY_S = 1.0
FIELDS = ("requests", "cached_requests", "prompt_tokens", "completion_tokens", "compute_seconds")
_BETWEEN = "\x1f"

# A batch that was written and whose reply was lost is sent again: each writer's number makes it count once.
WRITE = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# Model → what was used of it, by field.
Used = dict[str, Counter[str]]
Flushed = Callable[[str, Mapping[str, Counter[str]]], None]


@dataclass(slots=True)
class _Batch:
    """On its way to Redis: never changed, so that it can be sent again."""

    number: int
    used: Used


class Ledger:
    """`link` None: kept in this process alone."""

    def __init__(
        self,
        link: RedisLink | None,
        days: int,
        flushed: Flushed,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        """`flushed` is told, every now and then, what a tenant has used since."""
        self._link, self._days, self._flushed, self._today = link, days, flushed, today
        self._writer, self._number = f"#{secrets.token_hex(8)}", 0
        # By tenant and model, in the order of FIELDS: what was added since the last flush.
        self._fresh: dict[tuple[str, str], list[float]] = {}
        # By day and tenant: being sent, and without Redis kept.
        self._sent: dict[tuple[date, str], _Batch] = {}
        self._kept: defaultdict[tuple[date, str], Used] = defaultdict(dict)
        self._flushing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def add(self, tenant: str, cost: Cost, requests: int) -> None:
        """A reply to `requests` new ones."""
        used = self._used(tenant, cost.model)
        used[0] += requests
        used[2] += cost.prompt_tokens
        used[3] += cost.completion_tokens
        used[4] += cost.compute_s

    def add_remembered(self, tenant: str, model: str, requests: int) -> None:
        """Answers that cost nothing but to be asked for."""
        used = self._used(tenant, model)
        used[0] += requests
        used[1] += requests

    def _used(self, tenant: str, model: str) -> list[float]:
        used = self._fresh.get((tenant, model))
        if used is None:
            used = self._fresh[tenant, model] = [0.0] * len(FIELDS)
        return used

    async def start(self) -> None:
        self._flushing = asyncio.create_task(self._flush_again())

    async def close(self) -> None:
        """Tells Redis the rest."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
        await self.flush()

    async def flush(self) -> None:
        """Hands on what was added since; what Redis does not take now it gets the next time."""
        async with self._one_at_a_time:
            # What was under way, then what had to wait for it.
            if await self._send() and self._fresh:
                await self._send()
            self._forget()

    async def _send(self) -> bool:
        self._pack()
        for key in list(self._sent):
            if self._link is None:
                _merge(self._kept[key], self._sent.pop(key).used)
            elif not await self._write(self._link, *key):
                return False
        return True

    def _pack(self) -> None:
        """What was added since, as batches of today; a tenant whose last one is still on its way waits."""
        today, packed = self._today(), dict[str, Used]()
        for tenant, model in list(self._fresh):
            if (today, tenant) not in self._sent:
                amounts = self._fresh.pop((tenant, model))
                packed.setdefault(tenant, {})[model] = Counter(dict(zip(FIELDS, amounts, strict=True)))
        for tenant, used in packed.items():
            self._flushed(tenant, used)
            self._number += 1
            self._sent[today, tenant] = _Batch(self._number, used)

    async def read(self, tenants: Collection[str] | None, first: date, last: date) -> dict[str, Used]:
        """Tenant → model → use, on those days; None = of all tenants. Raises NoAnswer."""
        await self.flush()
        found: dict[str, Used] = {}
        for day in (date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)):
            for tenant in sorted(await self._tenants(day) if tenants is None else tenants):
                _merge(found.setdefault(tenant, {}), await self._day(day, tenant))
        return {tenant: used for tenant, used in found.items() if used}

    async def _flush_again(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def _write(self, link: RedisLink, day: date, tenant: str) -> bool:
        batch, life_s = self._sent[day, tenant], self._days * 86400
        amounts = [
            word
            for model, used in batch.used.items()
            for name in FIELDS
            if used[name]
            for word in (f"{model}{_BETWEEN}{name}", f"{used[name]:.12g}")
        ]
        words = self._writer, str(batch.number), str(life_s), *amounts
        try:
            await link.command("HSET", _tenants_key(day), tenant, "")
            await link.command("EXPIRE", _tenants_key(day), life_s)
            await link.command("EVAL", WRITE, 1, _key(day, tenant), *words)
        except NoAnswer:
            return False
        del self._sent[day, tenant]
        return True

    async def _tenants(self, day: date) -> set[str]:
        if self._link is None:
            return {tenant for kept, tenant in self._kept if kept == day}
        names = await self._link.command("HKEYS", _tenants_key(day))
        return {name.decode() for name in names}

    async def _day(self, day: date, tenant: str) -> Used:
        if self._link is None:
            return self._kept.get((day, tenant), {})
        fields = await self._link.ask(lambda redis: redis.hgetall(_key(day, tenant)))
        used: Used = {}
        for name, amount in fields.items():
            model, between, kind = name.decode().rpartition(_BETWEEN)
            if between:
                used.setdefault(model, Counter())[kind] += float(amount)  # type: ignore[assignment]
        return used

    def _forget(self) -> None:
        oldest = self._today().toordinal() - self._days
        for key in [key for key in self._kept if key[0].toordinal() < oldest]:
            del self._kept[key]


def _merge(into: Used, used: Used) -> None:
    for model, counted in used.items():
        into.setdefault(model, Counter()).update(counted)


def _key(day: date, tenant: str) -> str:
    return f"{PREFIX}:{day}:{{{tag(tenant)}}}"


def _tenants_key(day: date) -> str:
    return f"{PREFIX}:{day}:tenants"
