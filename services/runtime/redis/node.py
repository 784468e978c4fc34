"""A server that is asked over one line, opened when it is needed. Knows not how it is found."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from services.runtime.redis.dial import refused
from services.runtime.redis.line import Line, Word


class Node:
    """Opens a line once for all who wait for it, and anew when it has ended."""

    def __init__(self, dial: Callable[[], Coroutine[Any, Any, Line]]) -> None:
        self._dial = dial
        self._line: Line | None = None
        self._opening: asyncio.Task[Line] | None = None

    async def ask(self, *words: Word) -> Any:
        """The reply; a server's error is a value. Raises OSError, TimeoutError or ReplyError: no line, or lost."""
        line = self._line
        if line is None or line.over:
            line = await self._open()
        reply = await line.ask(*words)
        if refused(reply, "READONLY"):
            # It was a master, and is not any more.
            line.close("demoted")
        return reply

    async def follow(self, *questions: tuple[Word, ...]) -> Any:
        """The reply to the last of some questions that must come one right after the other."""
        line = self._line if self._line is not None and not self._line.over else await self._open()
        replies = await asyncio.gather(*(line.ask(*words) for words in questions))
        return replies[-1]

    async def nodes(self) -> "Sequence[Node]":
        """All that hold keys."""
        return (self,)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._line is not None:
            await self._line.closed()

    async def _open(self) -> Line:
        if self._opening is None:
            self._opening = asyncio.create_task(self._dial())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        # Whoever leaves, leaves it to the others.
        await asyncio.wait({opening})
        if opening.cancelled():
            raise ConnectionError("closed while it was being opened")
        return opening.result()

    def _opened(self, opening: "asyncio.Task[Line]") -> None:
        self._opening = None
        # Asked for its error, so that one whom nobody waits for any more is no complaint.
        if not opening.cancelled() and opening.exception() is None:
            self._line = opening.result()
