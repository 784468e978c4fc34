"""A link to Redis that costs a bounded time, behind a breaker. Knows no key and no value."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.runtime.breaker import Breaker
from services.runtime.redis_settings import RedisSettings

T = TypeVar("T")

log = logging.getLogger("maas.redis")


class NoAnswer(Exception):
    """Redis did not answer in time, or at all, or was not asked because of that."""


class RedisLink:
    """Asks Redis within a time bound. `on_fault` is called for each time it did not answer."""

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
        self._closed = False

    @classmethod
    def of(
        cls, settings: RedisSettings, on_fault: Callable[[], None], on_break: Callable[[bool], None]
    ) -> "RedisLink":
        """As the settings say; `on_break` is told when the breaker opens and closes."""
        breaker = Breaker(settings.redis_breaker_faults, settings.redis_breaker_open_s, on_change=on_break)
        connect_s, operation_s = settings.redis_connect_ms / 1000, settings.redis_operation_ms / 1000
        return cls(settings.redis_url, connect_s, operation_s, breaker, on_fault)

    @property
    def broken(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.is_open

    async def ask(self, operation: Callable[[redis.Redis], Awaitable[T]]) -> T:
        """What `operation` finds. Raises NoAnswer for Redis' sake, and nothing else."""
        if self._closed or not self._breaker.allow():
            raise NoAnswer
        try:
            with _cancellable():
                async with asyncio.timeout(self._longest_s):
                    found = await operation(self._client)
        # Whatever it is: a broken connection is also a RuntimeError under uvloop, a bad answer any parser's error.
        except Exception as error:
            # The breaker bounds these lines. Not the text: a parser's error can repeat what it read.
            log.warning("Redis did not answer", extra={"error": type(error).__name__})
            self._breaker.fault()
            self._on_fault()
            raise NoAnswer from None
        self._breaker.success()
        return found

    async def close(self) -> None:
        """Ends the connections, and makes none any more for those who come late."""
        self._closed = True
        await self._client.aclose()


@contextmanager
def _cancellable() -> Iterator[None]:
    """Raises CancelledError at the end if the task was cancelled within: the client sends through
    asyncio.wait_for, which before Python 3.12 forgets a cancellation that comes as it is done."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
