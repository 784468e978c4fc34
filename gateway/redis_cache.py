"""Redis as a cache that can only help: any fault is a miss. Knows keys and bytes."""

from typing import cast

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
            return cast("bytes | None", await self._link.ask(lambda redis: redis.get(key)))
        except NoAnswer:
            return None

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        """Keeps `value` for `life_s` seconds, if Redis takes it in time."""
        try:
            await self._link.ask(lambda redis: redis.set(key, value, px=max(1, round(life_s * 1000))))
        except NoAnswer:
            return

    async def flush(self, pattern: str) -> int:
        """Removes every key of `pattern`, some at a time, so that Redis serves others in between; how many.

        Raises NoAnswer, with some removed, when Redis does not say in time.
        """
        cursor, removed = 0, 0
        while True:
            cursor, keys = await self._link.ask(
                lambda redis, at=cursor: redis.scan(at, match=pattern, count=SCAN_COUNT)  # type: ignore[misc]
            )
            if keys:
                removed += await self._link.ask(lambda redis, some=keys: redis.unlink(*some))  # type: ignore[misc]
            if cursor == 0:
                return removed

    async def epoch(self) -> int:
        """How often caches on this Redis were flushed. Raises NoAnswer."""
        return int(await self._link.ask(lambda redis: redis.get(EPOCH)) or 0)

    async def advance(self) -> int:
        """One flush more; the new epoch. Raises NoAnswer."""
        return int(await self._link.ask(lambda redis: redis.incr(EPOCH)))

    async def close(self) -> None:
        await self._link.close()
