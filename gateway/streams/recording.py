"""What a stream has told so far, for as many readers as there are, each at its own pace. Knows no message inside.

All of it is kept while it is small enough to be remembered; then only what its fastest reader has yet to take, and
a little more. Pure asyncio.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from services.runtime.errors import DeadlinePassed, ServiceError, Unavailable

# Bytes: of all recordings that are kept whole, and of one that is not.
MOST_KEPT, WINDOW = 64 << 20, 64 << 10


@dataclass(slots=True)
class Shelf:
    """Bytes that the recordings of a process keep."""

    most: int = MOST_KEPT
    used: int = 0


@dataclass(eq=False, slots=True)
class _Reader:
    """`place`: messages it has taken. `deadline`: time.monotonic() seconds."""

    place: int
    deadline: float
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Recording:
    """One stream, of which at most `most` bytes are kept whole. `left` is called when its last reader has gone."""

    def __init__(self, shelf: Shelf, most: int, left: Callable[[], None]) -> None:
        self.whole, self.over, self.told = True, False, 0
        self.messages: list[bytes] = []
        self._error: ServiceError | None = None
        self._shelf, self._most, self._left = shelf, most, left
        self.readers: set[_Reader] = set()
        self._taken = asyncio.Event()
        self._bytes = 0

    @property
    def first(self) -> int:
        """Messages that are not kept any more."""
        return self.told - len(self.messages)

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def read_until(self) -> float:
        """When the most patient reader gives up, as time.monotonic() has it."""
        return max((reader.deadline for reader in self.readers), default=-math.inf)

    def add(self, message: bytes) -> None:
        """The next message."""
        self.messages.append(message)
        self.told += 1
        self._count(len(message))
        self.whole = self.whole and self._bytes <= self._most and self._shelf.used <= self._shelf.most
        self._tell()

    async def room(self) -> None:
        """Waits, unless all is kept, until the fastest reader has taken what would be too much."""
        while not self.whole and self._bytes > WINDOW:
            if any(reader.place > self.first for reader in self.readers):
                self._count(-len(self.messages.pop(0)))
            else:
                self._taken.clear()
                await self._taken.wait()

    def end(self, error: ServiceError | None = None) -> None:
        """There is no more, or what went wrong."""
        self._error, self.over = error, True
        self._tell()

    def forget(self) -> None:
        """Keeps nothing any more."""
        self._count(-self._bytes)
        self.whole = False
        self.messages.clear()

    async def read(self, after: int, deadline: float | None) -> AsyncGenerator[bytes, None]:
        """The messages after so many, as they come. Raises what ended the stream, DeadlinePassed at `deadline`,
        Unavailable to one who fell too far behind."""
        reader = _Reader(after, math.inf if deadline is None else deadline)
        self.readers.add(reader)
        try:
            while await self._more(reader):
                message = self._next(reader)
                yield message
        finally:
            self.readers.discard(reader)
            self._taken.set()
            if not self.readers:
                self._left()

    async def _more(self, reader: _Reader) -> bool:
        """Waits for the next message; False at the end."""
        while reader.place >= self.told and not self.over:
            reader.news.clear()
            await _until(reader.news, reader.deadline)
        if reader.place >= self.told and self._error is not None:
            raise self._error
        return reader.place < self.told

    def _next(self, reader: _Reader) -> bytes:
        if reader.place < self.first:
            raise Unavailable(
                "a reader of this stream fell too far behind the others; resume after the last message that came",
                reason="STREAM_LAGGED",
            )
        message = self.messages[reader.place - self.first]
        reader.place += 1
        self._taken.set()
        return message

    def _tell(self) -> None:
        for reader in self.readers:
            reader.news.set()

    def _count(self, size: int) -> None:
        self._bytes += size
        self._shelf.used += size


async def _until(event: asyncio.Event, deadline: float) -> None:
    """Raises DeadlinePassed if it is not set by then."""
    left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    try:
        async with asyncio.timeout(left):
            await event.wait()
    except TimeoutError:
        raise DeadlinePassed("the deadline passed while the stream was under way") from None
