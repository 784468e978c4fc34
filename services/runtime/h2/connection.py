"""One client's socket: events of the compiled part become tasks, whose words go out once a turn of the loop."""

import asyncio
import logging
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import grpc

from services.runtime.errors import Code
from services.runtime.h2 import metadata as fields
from services.runtime.h2 import serve
from services.runtime.h2.call import Call, Line
from services.runtime.h2.guests import Guests
from services.runtime.h2.native import BEGIN, CALL, END, MESSAGE, ROOM, Open, Pairs
from services.runtime.h2.stream import StreamCall
from services.runtime.h2.tls import identity_of
from services.runtime.h2.unpack import Unreadable

log = logging.getLogger("maas.h2")

AGE_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every connection of a server. Seconds; an age of 0 is none."""

    open: Open
    handlers: Mapping[str, grpc.RpcMethodHandler]
    unary: tuple[str, ...]
    most_message: int
    most_calls: int
    idle_s: float
    # A peer that has not said by then that it speaks HTTP/2 is none.
    greeting_s: float
    ping_s: float
    pong_s: float
    age_s: float
    guests: Guests
    # Where bytes arrive, one connection's at a time.
    arriving: memoryview


class Connection(asyncio.BufferedProtocol):
    """Tells `connections` while it lives."""

    def __init__(self, terms: Terms, connections: set["Connection"]) -> None:
        self.calls: dict[int, Call] = {}
        self._terms, self._connections = terms, connections
        self._loop = asyncio.get_running_loop()
        self._session = terms.open(terms.unary, terms.most_message, terms.most_calls)
        self._line = Line(self._loop, self._session, "", terms.most_message, self._soon)
        self._transport: asyncio.Transport | None = None
        self._due = self._paused = False
        # Counted as who comes from it; None before it is let in.
        self._address: str | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self._line.peer = _peer(name)
        self._line.identity = identity_of(transport.get_extra_info("peercert"))
        address = str(name[0]) if isinstance(name, tuple) else ""
        if not self._terms.guests.admit(address):
            log.warning("too many connections", extra={"peer": self._line.peer})
            self._transport.abort()
            return
        self._address = address
        self._connections.add(self)
        self._session.ping()
        self._after(min(self._terms.greeting_s, self._terms.ping_s + self._terms.pong_s), self._check)
        self._after(self._terms.idle_s, self._sweep)
        if self._terms.age_s:
            self._after(self._terms.age_s * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER), self.go_away)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._terms.arriving

    def buffer_updated(self, nbytes: int) -> None:
        try:
            events = self._session.feed(self._terms.arriving[:nbytes])
        except (ConnectionError, MemoryError) as error:
            log.info("connection broken", extra={"peer": self._line.peer, "error": str(error)})
            self.close()
            return
        for event in events:
            self._take(*event)
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        if self._address is not None:
            self._terms.guests.leave(self._address)
        for timer in self._timers:
            timer.cancel()
        for call in list(self.calls.values()):
            call.left()

    def go_away(self) -> None:
        """Asks for no more calls; closes when those in progress have ended."""
        self._session.go_away()
        self._flush()

    def close(self) -> None:
        """Ends what is in progress."""
        for call in list(self.calls.values()):
            call.end(Code.UNAVAILABLE, "the server stops")
            call.left()
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Leaves without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        if self._transport is None:
            return
        try:
            while not self._paused and (data := self._session.drain()):
                self._transport.write(data)
        except (ConnectionError, MemoryError) as error:
            log.info("connection broken", extra={"peer": self._line.peer, "error": str(error)})
            self._transport.abort()
            return
        for event in self._session.told():
            self._take(*event)
        if self._session.over:
            self._transport.close()

    def _take(self, kind: int, id: int, *more: Any) -> None:
        if kind == CALL:
            self._call(id, *more)
        elif kind == BEGIN:
            self._begin(id, *more)
        elif (call := self.calls.get(id)) is not None:
            self._tell(call, kind, *more)

    def _call(self, id: int, path: str, metadata: Pairs, timeout: str, message: bytes, encoding: str) -> None:
        call = Call(self._line, id, metadata, timeout)
        try:
            call.metadata = fields.read(metadata)
        except Unreadable as error:
            call.end(error.code, str(error))
            return
        self._run(call, serve.unary(self._terms.handlers[path], call, message, encoding))

    def _begin(self, id: int, path: str, metadata: Pairs, timeout: str) -> None:
        call = StreamCall(self._line, id, metadata, timeout)
        handler = self._terms.handlers.get(path)
        if handler is None:
            call.end(Code.UNIMPLEMENTED, "Method not found!")
            return
        try:
            call.metadata = fields.read(metadata)
        except Unreadable as error:
            call.end(error.code, str(error))
            return
        self._run(call, serve.stream(handler, call))

    def _tell(self, call: Call, kind: int, message: bytes = b"", encoding: str = "") -> None:
        if not isinstance(call, StreamCall):
            call.left()
        elif kind == MESSAGE:
            call.came(message, encoding)
        elif kind == END:
            call.complete()
        elif kind == ROOM:
            call.room()
        else:
            call.left()

    def _run(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        self.calls[call.id] = call
        call.task = self._loop.create_task(work)
        call.task.add_done_callback(partial(self._ended, call.id))

    def _ended(self, id: int, _: "asyncio.Task[None]") -> None:
        del self.calls[id]

    def _ping(self) -> None:
        self._session.ping()
        self._flush()
        self._after(self._terms.pong_s, self._check)

    def _sweep(self) -> None:
        """What waits for the peer must not wait for ever: requests that stay unfinished, replies not taken."""
        self._session.sweep()
        self._flush()
        self._after(self._terms.idle_s, self._sweep)

    def _check(self) -> None:
        """A peer that does not even answer a ping is not there any more."""
        if not self._session.unanswered:
            self._after(self._terms.ping_s, self._ping)
        elif self._transport is not None:
            self._transport.abort()

    def _after(self, seconds: float, then: Any) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
        self._timers.append(self._loop.call_later(seconds, then))


def _peer(name: Any) -> str:
    """As gRPC writes addresses."""
    if not isinstance(name, tuple):
        return "unix:"
    return f"ipv6:[{name[0]}]:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"
