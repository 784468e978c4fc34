"""Redis as a cache that can only help: bounded in time, behind a breaker, any fault is a miss and counted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.breaker import Breaker

log = logging.getLogger("maas.cache")


class RedisCache:
    """Bytes by key, with a life. Never raises for Redis' sake."""

    def __init__(
        self, url: str, connect_s: float, operation_s: float, breaker: Breaker, on_fault: Callable[[], None]
    ) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_connect_timeout=connect_s,
            socket_timeout=operation_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        # A fresh connection costs both waits; nothing costs more.
        self._longest_s = connect_s + operation_s
        self._breaker, self._on_fault = breaker, on_fault

    @property
    def broken(self) -> bool:
        return self._breaker.is_open

    async def get(self, key: str) -> bytes | None:
        """The value; None if it is not there or Redis did not say in time."""
        found: bytes | None = await self._try(lambda: self._client.get(key))
        return found

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        """Keeps `value` for `life_s` seconds, if Redis takes it in time."""
        await self._try(lambda: self._client.set(key, value, px=max(1, round(life_s * 1000))))

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        if not self._breaker.allow():
            return None
        try:
            async with asyncio.timeout(self._longest_s):
                found = await operation()
        # Whatever it is: a broken connection is also a RuntimeError under uvloop, a bad answer any parser's error.
        except Exception as error:
            # The breaker bounds these lines. Not the text: a parser's error can repeat what it read.
            log.warning("Redis did not answer", extra={"error": type(error).__name__})
            self._breaker.fault()
            self._on_fault()
            return None
        self._breaker.success()
        return found
