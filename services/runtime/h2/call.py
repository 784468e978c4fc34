"""A call as its handler sees it: what our handlers use of grpc.aio's ServicerContext. Knows no socket."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn
from urllib.parse import quote

import grpc
from grpc import aio

from services.runtime.h2.metadata import Told, carried
from services.runtime.h2.native import Pairs, Session

# What gRPC's percent-encoding leaves as it is: printable ASCII but "%".
PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if code != 0x25)
LONGEST_TIMEOUT = 9  # digits and a unit: gRPC's own limit
MOST_DETAILS = 2048
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 0, 4, 8


class Line:
    """A connection as its calls see it. `soon`: what was said in this turn of the loop shall go out at its end.

    `identity`: what the peer's certificate says, where it showed one.
    """

    __slots__ = ("identity", "loop", "most_message", "peer", "session", "soon")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        peer: str,
        most_message: int,
        soon: Callable[[], None],
    ) -> None:
        self.loop, self.session, self.peer, self.most_message, self.soon = loop, session, peer, most_message, soon
        self.identity: Mapping[str, Iterable[bytes]] = {}


class Call:
    """`deadline` is in time.monotonic() seconds. Whatever comes first ends a call, once."""

    __slots__ = (
        *("_code", "_details", "_initial", "_line", "_timer", "_trailing"),
        *("deadline", "ended", "id", "metadata", "task"),
    )

    def __init__(self, line: Line, id: int, metadata: Pairs, timeout: str) -> None:
        self.id, self.ended = id, False
        self.task: asyncio.Task[None] | None = None
        self.metadata: Sequence[tuple[str, str | bytes]] = metadata
        self._line = line
        self._initial: Pairs = ()
        self._trailing: Pairs = ()
        self._code, self._details = OK, ""
        left = seconds(timeout)
        self.deadline = None if left is None else time.monotonic() + left
        self._timer = None if left is None else line.loop.call_later(left, self._too_late)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self.metadata

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def peer(self) -> str:
        return self._line.peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What the peer's certificate says; nothing of one that showed none."""
        return self._line.identity

    async def send_initial_metadata(self, initial_metadata: Told) -> None:
        """A unary reply takes it along. Raises ValueError for what HTTP does not carry."""
        self._initial = carried(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Told) -> None:
        """Raises ValueError for what HTTP does not carry."""
        self._trailing = carried(trailing_metadata)

    def code(self) -> int:
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code.value[0]

    def set_details(self, details: str) -> None:
        self._details = details

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Told = ()) -> NoReturn:
        self._trailing = carried(trailing_metadata) or self._trailing
        self.set_code(code)
        self.end(code.value[0], details)
        raise aio.AbortError(details)

    @property
    def most_message(self) -> int:
        return self._line.most_message

    def answer(self, reply: bytes) -> None:
        """Ends a unary call with its reply, or with the status that the handler set."""
        if self._code or len(reply) > self._line.most_message:
            self._refuse(len(reply))
        elif not self.ended:
            self._close()
            trailers = (("grpc-status", "0"), *self._trailing)
            self._line.session.reply(self.id, self._initial, reply, trailers)
            self._line.soon()

    def end(self, status: int, details: str = "") -> None:
        """Ends the call with a status alone."""
        if self.ended:
            return
        self._close()
        told = quote(details[:MOST_DETAILS], safe=PLAIN, errors="replace")
        said = (("grpc-message", told),) if told else ()
        self._finish((("grpc-status", str(status)), *said, *self._trailing))

    def _finish(self, trailers: Pairs) -> None:
        self._line.session.finish(self.id, trailers)
        self._line.soon()

    def left(self) -> None:
        """Nobody is there any more to be told anything."""
        self._close()
        if self.task:
            self.task.cancel()

    def _refuse(self, size: int) -> None:
        if self._code:
            self.end(self._code, self._details)
        else:
            most = self._line.most_message
            self.end(RESOURCE_EXHAUSTED, f"the reply has {size} bytes; the limit is {most}")

    def _too_late(self) -> None:
        self.end(DEADLINE_EXCEEDED, "Deadline Exceeded")
        self.left()

    def _close(self) -> None:
        self.ended = True
        if self._timer:
            self._timer.cancel()


def seconds(timeout: str) -> float | None:
    """The value of `grpc-timeout`; None for one that is absent or says nothing."""
    number, unit = timeout[:-1], timeout[-1:]
    sound = len(timeout) <= LONGEST_TIMEOUT and unit in UNITS and number.isascii() and number.isdigit()
    return int(number) * UNITS[unit] if sound else None
