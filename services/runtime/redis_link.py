"""A link to Redis that costs a bounded time, behind a breaker. Knows no key and no value."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hiredis import ReplyError

from services.runtime.breaker import Breaker
from services.runtime.redis.commands import Asked, Commands
from services.runtime.redis.line import Word
from services.runtime.redis.open import open_router
from services.runtime.redis.place import place_of
from services.runtime.redis_settings import RedisSettings
from services.runtime.tracing.span import timed

T = TypeVar("T")

log = logging.getLogger("maas.redis")


class NoAnswer(Exception):
    """Redis did not answer in time, or at all, or was not asked because of that."""


class RedisLink:
    """Asks Redis within a time bound. `on_fault` is called for each time it did not answer."""

    def __init__(
        self, url: str, connect_s: float, operation_s: float, breaker: Breaker, on_fault: Callable[[], None]
    ) -> None:
        self._router = open_router(place_of(url), connect_s, operation_s)
        # Something new to find, to connect to and to ask costs all waits; nothing costs more.
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

    async def command(self, *words: Word) -> Any:
        """The raw reply to one command, on its key's server. Raises NoAnswer. The short way: nothing is spent
        on it beside the line, which keeps the bound."""
        if self._closed or not self._breaker.allow():
            raise NoAnswer
        try:
            with timed("redis"):
                found = await self._router.ask(*words)
            if isinstance(found, ReplyError):
                raise found
        except Exception as error:
            raise self._fault(error) from None
        self._breaker.success()
        return found

    async def ask(self, operation: Callable[[Commands], Awaitable[T]], node: Asked | None = None) -> T:
        """What `operation` finds, at `node` or where its keys are. Raises NoAnswer for Redis' sake, and nothing
        else."""
        if self._closed or not self._breaker.allow():
            raise NoAnswer
        try:
            with _cancellable():
                async with asyncio.timeout(self._longest_s):
                    with timed("redis"):
                        found = await operation(Commands(node or self._router))
        # Whatever it is: a bad answer can be any parser's error.
        except Exception as error:
            raise self._fault(error) from None
        self._breaker.success()
        return found

    async def nodes(self) -> Sequence[Asked]:
        """All servers that hold keys. Raises NoAnswer."""
        if self._closed or not self._breaker.allow():
            raise NoAnswer
        try:
            async with asyncio.timeout(self._longest_s):
                return await self._router.nodes()
        except Exception as error:
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> NoAnswer:
        # The breaker bounds these lines. Not the text: a parser's error can repeat what it read.
        log.warning("Redis did not answer", extra={"error": type(error).__name__})
        self._breaker.fault()
        self._on_fault()
        return NoAnswer()

    async def close(self) -> None:
        """Ends the connections, and makes none any more for those who come late."""
        self._closed = True
        await self._router.close()


@contextmanager
def _cancellable() -> Iterator[None]:
    """Raises CancelledError at the end if the task was cancelled within: an operation may forget it, as what sends
    through asyncio.wait_for does before Python 3.12 when it is cancelled as it is done."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        yield
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
