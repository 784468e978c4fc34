"""What a handler is given of its call: the part of grpc.aio's ServicerContext that our handlers use."""

import asyncio
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import grpc
from grpc import aio

from services.runtime.context import current

if TYPE_CHECKING:
    from tests.bench.front.server import Connection

Pairs = Sequence[tuple[str, Any]]
# What gRPC's percent-encoding leaves as it is: printable ASCII but "%".
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if code != 0x25)
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# Bytes that may wait for a slow caller of a stream before its writer does.
MOST_WAITING = 64 * 1024


class Call:
    """A unary call; `key`: its request as a table knows it; `deadline` in time.monotonic() seconds. Whatever comes first ends it, once."""

    __slots__ = ("_code", "_connection", "_details", "_initial", "_metadata", "_timer", "_trailing", "deadline",
                 "ended", "id", "key", "task")  # fmt: skip

    def __init__(self, connection: "Connection", id: int, metadata: Pairs, timeout: str) -> None:
        self._connection, self.id, self._metadata = connection, id, metadata
        self._initial: Pairs = ()
        self._trailing: Pairs = ()
        self._code, self._details = 0, ""
        self.ended = False
        self.key: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout:
            left = int(timeout[:-1]) * UNITS[timeout[-1]]
            self.deadline = time.monotonic() + left
            self._timer = connection.loop.call_later(left, self._too_late)

    def invocation_metadata(self) -> Pairs:
        if any(name.endswith("-bin") for name, _ in self._metadata):
            return tuple(
                (name, _decoded(value) if name.endswith("-bin") else value) for name, value in self._metadata
            )
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def peer(self) -> str:
        return self._connection.peer

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, Any]]) -> None:
        self._trailing = tuple(metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code.value[0]

    def set_details(self, details: str) -> None:
        self._details = details

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, Any]]) -> None:
        """With the message of a unary call; a stream says it at once."""
        self._initial = tuple(metadata)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: Iterable[tuple[str, Any]] = ()
    ) -> NoReturn:
        self._trailing = tuple(trailing) or self._trailing
        self.end(code.value[0], details)
        raise aio.AbortError(details)

    def answer(self, reply: bytes) -> None:
        """Ends a unary call with its reply, or with the status that the handler set."""
        if self.ended or self._code:
            self.end(self._code, self._details)
            return
        self._close()
        initial = (*self._initial, *current().initial)
        self._connection.learn(self.key, reply, initial)
        trailers = (("grpc-status", "0"), *_encoded(self._trailing))
        self._connection.session.reply(self.id, _encoded(initial), reply, trailers)
        self._connection.soon()

    def end(self, status: int, details: str = "") -> None:
        """Ends the call with a status alone."""
        if self.ended:
            return
        self._close()
        said = (("grpc-message", quote(details, safe=PLAIN)),) if details else ()
        self._connection.session.finish(self.id, (("grpc-status", str(status)), *said, *_encoded(self._trailing)))
        self._connection.soon()

    def left(self) -> None:
        """Its caller is gone."""
        self.ended = True
        self._stop()

    def _close(self) -> None:
        self.ended = True
        if self._timer:
            self._timer.cancel()

    def _too_late(self) -> None:
        self.end(grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "Deadline Exceeded")
        self._stop()

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self.task:
            self.task.cancel()


class StreamCall(Call):
    """A call with a stream in either direction: also the iterator over what its caller sends."""

    __slots__ = ("_begun", "_complete", "_inbox", "_news", "_room", "write")

    def __init__(self, connection: "Connection", id: int, metadata: Pairs, timeout: str) -> None:
        super().__init__(connection, id, metadata, timeout)
        self._begun = self._complete = False
        self._inbox: deque[bytes] = deque()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, Any]]) -> None:
        self._begin(metadata)
        self._connection.soon()

    async def send(self, message: bytes) -> None:
        """Waits while much of what was sent before is still here."""
        if self.ended:
            raise asyncio.CancelledError
        self._begin(())
        waiting = self._connection.session.send(self.id, message)
        self._connection.soon()
        if waiting > MOST_WAITING:
            self._room = self._connection.loop.create_future()
            await self._room

    async def messages(self) -> AsyncIterator[bytes]:
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                self._connection.session.read(self.id, len(message))
                self._connection.soon()
                yield message
            if self._complete:
                return
            self._news = self._connection.loop.create_future()
            await self._news

    def finished(self) -> None:
        """Its handler has said all."""
        self._begin(())
        self.end(self._code, self._details)

    def came(self, message: bytes) -> None:
        self._inbox.append(message)
        _wake(self._news)

    def complete(self) -> None:
        self._complete = True
        _wake(self._news)

    def room(self) -> None:
        _wake(self._room)

    def _begin(self, metadata: Iterable[tuple[str, Any]]) -> None:
        if not self._begun:
            self._begun = True
            self._connection.session.head(self.id, _encoded(tuple(metadata)))


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting and not waiting.done():
        waiting.set_result(None)


def _encoded(pairs: Pairs) -> Pairs:
    """Values of names in -bin as HTTP carries them."""
    if all(type(value) is str for _, value in pairs):
        return pairs
    return tuple(
        (name, value if isinstance(value, str) else b64encode(value).rstrip(b"=").decode())
        for name, value in pairs
    )


def _decoded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))
