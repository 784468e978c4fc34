"""A call with a stream in either direction, which waits where the other side does. Knows no socket."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from services.runtime.h2.call import Call, Line
from services.runtime.h2.metadata import Told, carried
from services.runtime.h2.native import Pairs
from services.runtime.h2.unpack import Unreadable, opened

# Bytes that may wait for a slow caller before what writes does.
MOST_WAITING = 64 * 1024
HEARD_S = 0.02
LAST_WORDS_S = 0.01


class StreamCall(Call):
    """`serialize`: messages of the handler → bytes."""

    __slots__ = ("_begun", "_complete", "_inbox", "_news", "_room", "serialize")

    def __init__(self, line: Line, id: int, metadata: Pairs, timeout: str) -> None:
        super().__init__(line, id, metadata, timeout)
        self.serialize: Callable[[Any], bytes] | None = None
        self._begun = self._complete = False
        self._inbox: deque[tuple[bytes, str]] = deque()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def _finish(self, trailers: Pairs) -> None:
        """To a caller that may still be sending after a moment: a client of grpc.aio whose write fails does not
        look at the status that came ahead of it.
        """
        if self._complete:
            super()._finish(trailers)
        else:
            self._line.loop.call_later(LAST_WORDS_S, super()._finish, trailers)

    async def send_initial_metadata(self, initial_metadata: Told) -> None:
        self._begin(initial_metadata)
        self._line.soon()

    async def write(self, message: Any) -> None:
        """Returns at once, unless much of what was written before still waits for the caller."""
        data = self.serialize(message) if self.serialize else message
        if self.ended:
            raise asyncio.CancelledError
        if len(data) > self._line.most_message:
            self._refuse(len(data))
            raise asyncio.CancelledError
        self._begin(())
        waiting = self._line.session.send(self.id, data)
        self._line.soon()
        if waiting > MOST_WAITING:
            self._room = self._line.loop.create_future()
            await self._room

    async def messages(self) -> AsyncIterator[bytes]:
        """What the caller sends, until it says that this was all."""
        while True:
            while self._inbox:
                message, encoding = self._inbox.popleft()
                self._line.session.read(self.id, len(message))
                self._line.soon()
                yield await self._opened(message, encoding) if encoding else message
            if self._complete:
                return
            self._news = self._line.loop.create_future()
            await self._news

    async def heard(self) -> None:
        """Returns when the caller has sent something, or after a moment.

        A client of grpc.aio whose first write fails does not look at the status that came ahead of it.
        """
        if not self._inbox and not self._complete:
            self._news = self._line.loop.create_future()
            timer = self._line.loop.call_later(HEARD_S, _wake, self._news)
            await self._news
            timer.cancel()

    def finish(self) -> None:
        """Its handler has said all."""
        if not self.ended:
            self._begin(())
            self.end(self._code, self._details)

    def came(self, message: bytes, encoding: str) -> None:
        """Stays packed until it is read: a caller must not fill memory with what it did not send."""
        self._inbox.append((message, encoding))
        _wake(self._news)

    def complete(self) -> None:
        self._complete = True
        _wake(self._news)

    def room(self) -> None:
        _wake(self._room)

    async def _opened(self, message: bytes, encoding: str) -> bytes:
        try:
            return await opened(message, encoding, self._line.most_message)
        except Unreadable as error:
            self.end(error.code, str(error))
            self.left()
            raise asyncio.CancelledError from None

    def _begin(self, metadata: Told) -> None:
        if not self._begun:
            told = carried(metadata)
            self._begun = True
            self._line.session.head(self.id, told)


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
