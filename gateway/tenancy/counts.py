"""Where it is kept what tenants have used: in Redis for all gateways, in this process while Redis is away."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.cache_key import tag
from gateway.tenancy.windows import Count, Window
from services.runtime.redis_link import RedisLink

# One round trip, whatever the number of windows: what is owed is always counted, the call itself where all windows
# have room for it. Redis' clock, as those of gateways differ. windows.py says what is computed here.
TAKE = """
local clock = redis.call('TIME')
local at = clock[1] + clock[2] / 1000000
local counts, fits, longest = {}, 1, 0
for i = 1, #ARGV, 5 do
  local seconds, limit, wanted = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local index = math.floor(at / seconds)
  local kept = redis.call('HGET', KEYS[1], ARGV[i]) or '0 0 0'
  local was, now, before = kept:match('(%S+) (%S+) (%S+)')
  was, now, before = tonumber(was), tonumber(now), tonumber(before)
  if index ~= was then
    if index == was + 1 then before = now else before = 0 end
    now = 0
  end
  now = now + tonumber(ARGV[i + 4])
  local used = now + before * (1 - at % seconds / seconds)
  if (wanted > 0 and used + wanted > limit) or (wanted == 0 and used >= limit) then fits = 0 end
  counts[#counts + 1] = {index, now, before, wanted, ARGV[i]}
  longest = math.max(longest, seconds)
end
local told = {fits, string.format('%.6f', at)}
for _, count in ipairs(counts) do
  local now = count[2] + count[4] * fits
  local kept = string.format('%d %.17g %.17g', count[1], now, count[3])
  redis.call('HSET', KEYS[1], count[5], kept)
  told[#told + 1] = kept
end
redis.call('PEXPIRE', KEYS[1], longest * 2000)
return told
"""

Owed = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a call was let in, what was used then (in the order of the windows), and at which unix time."""

    fits: bool
    at_s: float
    counts: Sequence[Count]


def key_of(tenant: str) -> str:
    return f"maas:v1:quota:{{{tag(tenant)}}}"


@dataclass(frozen=True, slots=True)
class SharedCounts:
    """One hash a tenant."""

    link: RedisLink

    async def take(self, tenant: str, windows: Sequence[Window], owed: Owed, calls: int = 1) -> Taken:
        """A place for `calls`, 0 or 1, and what is owed by kind. Raises NoAnswer: none or all of it was done."""
        words = [word for window in windows for word in _words(window, owed, calls)]
        told = await self.link.command("EVAL", TAKE, 1, key_of(tenant), *words)
        counts = [_count(kept) for kept in told[2:]]
        return Taken(bool(told[0]), float(told[1]), counts)


@dataclass(slots=True)
class LocalCounts:
    """Counts of this process alone, against `share` of every limit."""

    share: float = 1.0
    clock: Callable[[], float] = time.time
    _counts: dict[tuple[str, str], Count] = field(default_factory=dict)

    def take(self, tenant: str, windows: Sequence[Window], owed: Owed, calls: int = 1) -> Taken:
        """As SharedCounts does."""
        at = self.clock()
        counts = [self._counts.setdefault((tenant, window.name), Count()) for window in windows]
        for window, count in zip(windows, counts, strict=True):
            count.move(int(at // window.seconds))
            count.now += owed.get(window.kind, 0.0)
        fits = all(count.fits(window, at, self.share) for window, count in zip(windows, counts, strict=True))
        for window, count in zip(windows, counts, strict=True):
            count.now += window.wanted * calls * fits
        return Taken(fits, at, counts)

    def forget(self, older_s: float = 2 * 86400) -> None:
        """Drops what no window looks at any more."""
        at = self.clock()
        for key, count in list(self._counts.items()):
            seconds = int(key[1].rpartition("/")[2])
            if at // seconds > count.index + 1:
                del self._counts[key]


def _words(window: Window, owed: Owed, calls: int) -> tuple[str, ...]:
    amounts = window.seconds, window.limit, window.wanted * calls, owed.get(window.kind, 0.0)
    return (window.name, *(f"{amount:.17g}" for amount in amounts))


def _count(kept: bytes) -> Count:
    index, now, before = kept.split()
    return Count(int(index), float(now), float(before))
