"""Redis as a cache that can only help: any fault is a miss. Knows keys and bytes."""

from typing import cast

from services.runtime.redis_link import NoAnswer, RedisLink


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

    async def close(self) -> None:
        await self._link.close()
