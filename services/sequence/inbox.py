"""What a caller sends on a stream, as long as there is a session to send it to. Knows no step."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from maas.sequence.v1.sequence_service_pb2 import RunSessionRequest
from services.sequence.stepping import Held, Sessions


class Inbox:
    """The messages of one stream until its caller ends it, its session is over, or the server drains."""

    def __init__(self, sessions: Sessions, session: Held, requests: AsyncIterator[RunSessionRequest]) -> None:
        self._sessions, self._session, self._requests = sessions, session, requests
        # For the stream's length: a message costs no task but its own.
        self._signs = [asyncio.ensure_future(event.wait()) for event in (session.over, sessions.draining)]

    async def next(self) -> RunSessionRequest | None:
        """The next message; None when there is none any more."""
        message = asyncio.ensure_future(anext(self._requests, None))
        table = self._sessions.table
        try:
            while not (self._over or message.done()):
                patience = table.idle_left_s(self._session)
                await asyncio.wait([message, *self._signs], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                table.expire()
            return None if self._over else await message
        finally:
            if self._over or not message.done():
                await _drop(message)

    async def close(self) -> None:
        """Waits for nothing any more."""
        await _drop(*self._signs)

    @property
    def _over(self) -> bool:
        return self._session.over.is_set() or self._sessions.draining.is_set()


async def _drop(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
