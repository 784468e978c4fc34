"""A stream under way: a task of its own takes what the service tells, so that no reader's end is another's.

Knows neither cache nor gRPC. The call's time is its first reader's; for those who have more, and where somebody
resumed the stream elsewhere and so took it over, it is gone on with after the last message.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway.relay import Metadata
from gateway.streams.recording import Recording, Shelf
from services.runtime.context import current, enter
from services.runtime.errors import Code, ServiceError, Unavailable

log = logging.getLogger("maas.streams")

MOST_TURNS = 8
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stream comes from and goes to. open: its messages after so many, 0 = from its start; begun: is told
    the first one, and tells whether the rest could be had; keep: gets all of one that ended well and whole."""

    open: Callable[[int], AsyncGenerator[bytes, None]]
    begun: Callable[[bytes], bool]
    keep: Callable[[list[bytes]], Awaitable[None]]


class Flight:
    """One stream. `initial` metadata is known with its first message, `trailing` at its end."""

    def __init__(self, shelf: Shelf, most: int) -> None:
        self.recording = Recording(shelf, most, self._abandoned)
        self.initial: Metadata = ()
        self.trailing: list[tuple[str, str | bytes]] = []
        self._task: asyncio.Task[None] | None = None
        self._left = self._lasts = False
        self._until = math.inf

    @property
    def joinable(self) -> bool:
        """Whether a newcomer gets all of it."""
        return self.recording.whole and self._usable

    def has(self, number: int) -> bool:
        """Whether a reader can go on after so many messages."""
        return self._usable and self.recording.first <= number <= self.recording.told

    @property
    def _usable(self) -> bool:
        return not (self._left or self.recording.failed)

    def start(self, source: Source) -> "asyncio.Task[None]":
        """Begins to take the stream, in the caller's time."""
        self._task = asyncio.create_task(self._run(source))
        self._task.add_done_callback(lambda _: self._done())
        return self._task

    async def _run(self, source: Source) -> None:
        self._enter(current().deadline)
        try:
            await self._turns(source)
            self.recording.end()
            if self.recording.whole:
                await source.keep(self.recording.messages)
        except ServiceError as error:
            self.recording.end(error)
        except Exception:
            log.exception("a stream failed")
            quoted = f"internal error; quote request id {current().request_id} to the operators"
            self.recording.end(ServiceError(quoted))

    async def _turns(self, source: Source) -> None:
        for turn in range(1, MOST_TURNS + 1):
            try:
                return await self._take(source)
            except ServiceError as error:
                if turn == MOST_TURNS or not self._goes_on(error):
                    raise (error if turn == 1 else _broken(error)) from error
            self._enter(self.recording.read_until)
        return None

    async def _take(self, source: Source) -> None:
        async with aclosing(source.open(self.recording.told)) as messages:
            async for message in messages:
                if not self.recording.told:
                    self._lasts = source.begun(message)
                self.recording.add(message)
                await self.recording.room()

    def _goes_on(self, error: ServiceError) -> bool:
        """Whether somebody would read the rest, and it can be had."""
        patient = self.recording.read_until > max(self._until, time.monotonic())
        wanted = error.reason == "STREAM_TAKEN_OVER" or (error.code is Code.DEADLINE_EXCEEDED and patient)
        return wanted and (self._lasts or not self.recording.told)

    def _enter(self, deadline: float | None) -> None:
        """Makes `deadline` (time.monotonic() seconds) that of the calls from now on."""
        self._until = math.inf if deadline is None else deadline
        limit = None if self._until == math.inf else self._until
        enter(replace(current(), deadline=limit, initial=[], trailing=self.trailing))

    def _abandoned(self) -> None:
        """The last reader has left."""
        if self._task is None or self._task.done():
            self.recording.forget()
        elif not self.recording.over:
            self._left = True
            self._task.cancel()

    def _done(self) -> None:
        """The task has ended."""
        if not self.recording.over:
            self.recording.end(Unavailable("the gateway is stopping", retry_after_s=RETRY_AFTER_S))
        if not self.recording.readers:
            self.recording.forget()


def _broken(error: ServiceError) -> Unavailable:
    return Unavailable(
        f"the stream broke off and could not be gone on with ({error.message}); ask again",
        reason="STREAM_BROKEN",
        retry_after_s=RETRY_AFTER_S,
    )
