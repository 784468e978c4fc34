"""Redis as a cache that can only help: any fault is a miss. Knows keys and bytes."""

import asyncio
from typing import cast

from services.runtime.redis.commands import Asked, Commands
from services.runtime.redis_link import NoAnswer, RedisLink

EPOCH = "maas:flushes"
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
            await self._link.command("SET", key, value, "PX", max(1, round(life_s * 1000)))
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
