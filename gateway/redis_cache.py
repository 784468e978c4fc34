"""Redis as a cache that can only help: any fault is a miss. Knows keys and bytes."""

import asyncio
from typing import cast

from services.runtime.redis.commands import Asked, Commands
from services.runtime.redis_link import NoAnswer, RedisLink

EPOCH = "maas:flushes"
LEASE = "maas:v1:lease"
# KEYS: an answer and its lease; ARGV: a token, the lease's life in ms. The answer, or whether the lease was had.
CLAIM = """
local value = redis.call('GET', KEYS[1])
if value then return {0, value} end
return {redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0, false}
"""
# KEYS: a lease; ARGV: a token, a life in ms. Its holder's alone.
EXTEND = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
# Keys that Redis looks at in one step.
SCAN_COUNT = 512


class RedisCache:
    """Bytes by key, with a life. Never raises for Redis' sake."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    @property
    def broken(self) -> bool:
        return self._link.broken

    async def get(self, key: str) -> bytes | None:
        """The value; None if it is not there or Redis did not say in time."""
        try:
            return cast("bytes | None", await self._link.command("GET", key))
        except NoAnswer:
            return None

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        """Keeps `value` for `life_s` seconds, if Redis takes it in time."""
        try:
            await self._link.command("SET", key, value, "PX", _ms(life_s))
        except NoAnswer:
            return

    async def claim(self, key: str, token: str, life_s: float) -> tuple[bool, bytes | None] | None:
        """The value, or whether the lease on it is this token's now, for `life_s`; None if Redis did not say."""
        try:
            won, value = await self._link.command("EVAL", CLAIM, 2, key, _lease(key), token, _ms(life_s))
        except NoAnswer:
            return None
        return bool(won), value

    async def lock(self, key: str, token: str, life_s: float) -> bool | None:
        """Whether the lease is this token's now, value or not; None if Redis did not say."""
        try:
            said = await self._link.command("SET", _lease(key), token, "PX", _ms(life_s), "NX")
        except NoAnswer:
            return None
        return said is not None

    async def extend(self, key: str, token: str, life_s: float) -> bool | None:
        """Whether the lease is this token's still, for `life_s` from now; None if Redis did not say."""
        try:
            return bool(await self._link.command("EVAL", EXTEND, 1, _lease(key), token, _ms(life_s)))
        except NoAnswer:
            return None

    async def unlock(self, key: str, token: str) -> None:
        """Gives the lease back, if it is this token's; one that Redis does not hear of ends by itself."""
        try:
            await self._link.command("EVAL", RELEASE, 1, _lease(key), token)
        except NoAnswer:
            return

    async def flush(self, pattern: str) -> int:
        """Removes every key of `pattern`, some at a time, so that Redis serves others in between; how many.

        Raises NoAnswer, with some removed, when Redis does not say in time.
        """
        nodes = await self._link.nodes()
        return sum([await self._sweep(node, pattern, one_by_one=len(nodes) > 1) for node in nodes])

    async def _sweep(self, node: Asked, pattern: str, one_by_one: bool) -> int:
        """`one_by_one`: what a cluster's command names must be of one slot."""

        async def step(redis: Commands) -> tuple[int, int]:
            after, keys = await redis.scan(cursor, match=pattern, count=SCAN_COUNT)
            chunks = [[key] for key in keys] if one_by_one else [keys] if keys else []
            gone = await asyncio.gather(*(redis.unlink(*chunk) for chunk in chunks))
            return after, sum(gone)

        cursor, removed = 0, 0
        while True:
            cursor, gone = await self._link.ask(step, node)
            removed += gone
            if cursor == 0:
                return removed

    async def epoch(self) -> int:
        """How often caches on this Redis were flushed. Raises NoAnswer."""
        return int(await self._link.command("GET", EPOCH) or 0)

    async def advance(self) -> int:
        """One flush more; the new epoch. Raises NoAnswer."""
        return int(await self._link.command("INCR", EPOCH))

    async def close(self) -> None:
        await self._link.close()


def _lease(key: str) -> str:
    """Beside the answer: what stands in its braces decides the slot of both in a cluster."""
    return f"{LEASE}:{key[key.index('{') :]}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
