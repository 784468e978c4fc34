"""One connection to a Redis server, shared by all who ask: what waits within one turn of the loop is one write.

Replies are matched in order. Knows no command and no address.
"""

import asyncio
from collections import deque
from typing import Any, TypeAlias, cast

import hiredis

Word: TypeAlias = str | bytes | int | float

# A server silent for so many times the bound of one reply hangs. One that is merely late costs only who waited.
SILENT = 2
# Time to read what has arrived before it is called late: this process may have been the one that was held up.
GRACE_S = 0.001
# Beyond so many unanswered, the next is refused: a slow server must not fill the memory.
MOST_WAITING = 16_384

_NOTHING = object()


class Line(asyncio.Protocol):
    """Ends once and for all when the server closes, hangs, or says what nobody asked: all who wait are told, and
    whatever still arrives is dropped, so that no reply can meet another's question."""

    def __init__(self, bound_s: float) -> None:
        """`bound_s`: the longest wait for one reply."""
        self._loop = asyncio.get_running_loop()
        self._bound_s = bound_s
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        # Who waits, and until when. One who was cancelled or was told that it took too long keeps its place.
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self.over = False

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """The reply to come, an error of the server's as a value of hiredis.ReplyError.

        Ends in TimeoutError after the bound and in ConnectionError with the line; raises the latter if it is over.
        """
        if self.over or len(self._waiting) >= MOST_WAITING:
            raise ConnectionError("the connection to Redis has ended or is overrun")
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]
        reply: asyncio.Future[Any] = self._loop.create_future()
        until = self._loop.time() + self._bound_s
        self._waiting.append((reply, until))
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._due)
        return reply

    def close(self, why: str = "closed") -> None:
        """Ends it at once."""
        if self.over:
            return
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for reply, _ in self._waiting:
            if not reply.done():
                reply.set_exception(ConnectionError(f"the connection to Redis has ended: {why}"))
        self._waiting.clear()

    async def closed(self) -> None:
        """Ends it, and returns when nothing is left of it."""
        self.close()
        if self._transport is not None:
            await self._lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none by their type.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost.set()
        self.close("lost")

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        self._heard_at = self._loop.time()
        try:
            self._reader.feed(data)
            while (said := self._reader.gets()) is not _NOTHING:
                reply, _ = self._waiting.popleft()
                if not reply.done():
                    reply.set_result(said)
        except (hiredis.ProtocolError, IndexError):
            # No protocol of ours, or more replies than questions: which is whose cannot be known any more.
            self.close("out of step")

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.over:
            self._transport.write(b"".join(unsent))

    def _due(self) -> None:
        self._timer = self._loop.call_later(GRACE_S, self._judge)

    def _judge(self) -> None:
        """Tells who waited too long, or ends a line that hangs."""
        self._timer = None
        if not self._waiting:
            return
        now = self._loop.time()
        quiet_since = max(self._heard_at, self._waiting[0][1] - self._bound_s)
        ends_at = quiet_since + SILENT * self._bound_s
        if now >= ends_at:
            self.close("silent")
            return
        for reply, until in self._waiting:
            if until > now:
                ends_at = min(ends_at, until)
                break
            if not reply.done():
                reply.set_exception(TimeoutError("Redis took too long"))
        self._timer = self._loop.call_at(ends_at, self._due)
