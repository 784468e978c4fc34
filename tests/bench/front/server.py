"""A gRPC server on the event loop: asyncio has the sockets, the compiled part HTTP/2, handlers are grpc.aio's.

Stands in for `grpc.aio.server`: same handlers, same order of start and stop. Knows no service.
"""

import asyncio
import inspect
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, cast

import grpc
from grpc import aio

from tests.bench.front.call import Call, Pairs, StreamCall
from tests.bench.front.native import load

log = logging.getLogger("maas.front")
native = load()

CALL, BEGIN, MESSAGE, END, RESET, ROOM = range(6)
CANCELLED, UNKNOWN, UNIMPLEMENTED, UNAVAILABLE = 1, 2, 12, 14
MOST_MESSAGE = 4 * 1024 * 1024
HIT = ("x-maas-cache", "hit-l1")
TABLE_LIFE_S = 5.0


class Server:
    """`table`: answers by the bytes of their requests, which no handler sees."""

    def __init__(self, options: Iterable[tuple[str, Any]] = (), table: Any = None) -> None:
        chosen = dict(options)
        self.table, self.most_message = table, chosen.get("grpc.max_receive_message_length", MOST_MESSAGE)
        self._reuse = bool(chosen.get("grpc.so_reuseport", 0))
        self.methods: dict[str, grpc.RpcMethodHandler] = {}
        self.unary: list[str] = []
        self.connections: set[Connection] = set()
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server] = []
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Of the kind that `grpc.method_handlers_generic_handler` makes."""
        for handler in handlers:
            found: Mapping[str, grpc.RpcMethodHandler] = handler._method_handlers
            self.methods.update(found)
            self.unary += [path for path, one in found.items() if one.unary_unary]

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Generated code calls both; the other one is enough."""

    def add_insecure_port(self, address: str) -> int:
        """Binds at once, as whoever asks wants the number. Raises RuntimeError where that cannot be."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind((host, int(port)))
            made.listen(1024)
        except OSError as error:
            made.close()
            raise RuntimeError(f"cannot listen on {address}: {error}") from error
        self._sockets.append(made)
        bound: int = made.getsockname()[1]
        return bound

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            self._listening.append(await loop.create_server(lambda: Connection(self, loop), sock=one))

    async def stop(self, grace: float | None) -> None:
        """No new connections and calls; those in progress have `grace` seconds."""
        for listening in self._listening:
            listening.close()
        for connection in list(self.connections):
            connection.refuse_new()
        calls = [call.task for one in self.connections for call in one.calls.values() if call.task]
        if calls and grace:
            await asyncio.wait(calls, timeout=grace)
        for connection in list(self.connections):
            connection.end()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> None:
        await self._stopped.wait()


class Connection(asyncio.Protocol):
    """One client: events of the compiled part become tasks; what these say goes out once a turn."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self._server = loop, server
        self.session = native.Connection(server.unary, server.table, server.most_message)
        self.calls: dict[int, Call] = {}
        self.peer = ""
        self._transport: asyncio.Transport | None = None
        self._due = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername") or ("", 0)
        self.peer = f"ipv6:[{name[0]}]:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"
        self._server.connections.add(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self.session.feed(data)
        except ConnectionError as error:
            log.info("connection broken", extra={"error": str(error)})
            self.end()
            return
        for event in events:
            self._take(*event)
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.soon()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        for call in list(self.calls.values()):
            call.left()

    def soon(self) -> None:
        """What is said in this turn of the loop goes out together."""
        if not self._due:
            self._due = True
            self.loop.call_soon(self._flush)

    def learn(self, key: bytes | None, reply: bytes, said: Pairs) -> None:
        """What came from the gateway's memory a moment ago may come from the table for a while."""
        if key is not None and HIT in said:
            age_s = int(dict(said)["x-maas-cache-age-s"])
            now = time.time()
            self._server.table.put(key, reply, now - age_s, now + TABLE_LIFE_S)

    def refuse_new(self) -> None:
        self.session.refuse_new()
        self.soon()

    def end(self) -> None:
        """Ends what is in progress and closes."""
        for call in list(self.calls.values()):
            call.end(UNAVAILABLE, "the server stops")
            call._stop()
        self._flush()
        if self._transport:
            self._transport.close()

    def _flush(self) -> None:
        self._due = False
        if self._transport is None or self._paused:
            return
        data = self.session.drain()
        if data:
            self._transport.write(data)
        for event in self.session.told():
            self._take(*event)
        if self.session.over:
            self._transport.close()

    def _take(self, kind: int, id: int, *more: Any) -> None:
        if kind == CALL:
            path, metadata, timeout, message, key = more
            call = Call(self, id, metadata, timeout)
            call.key = key
            self._begin(call, _unary(self._server.methods[path], call, message))
        elif kind == BEGIN:
            self._open(id, *more)
        elif (call := self.calls.get(id)) is None:
            pass
        elif kind == MESSAGE:
            call.came(*more)
        elif kind == END:
            call.complete()
        elif kind == ROOM:
            call.room()
        else:
            call.left()

    def _open(self, id: int, path: str, metadata: Pairs, timeout: str) -> None:
        call = StreamCall(self, id, metadata, timeout)
        handler = self._server.methods.get(path)
        if handler is None:
            call.end(UNIMPLEMENTED, f"Method not found: {path}")
            return
        self._begin(call, _stream(handler, call))

    def _begin(self, call: Call, work: Any) -> None:
        self.calls[call.id] = call
        call.task = task = self.loop.create_task(work)
        task.add_done_callback(lambda _: self.calls.pop(call.id, None))


async def _unary(handler: Any, call: Call, message: bytes) -> None:
    try:
        request = handler.request_deserializer(message) if handler.request_deserializer else message
        reply = await handler.unary_unary(request, call)
        call.answer(handler.response_serializer(reply) if handler.response_serializer else reply)
    except aio.AbortError:
        pass
    except asyncio.CancelledError:
        call.end(CANCELLED)
    except Exception as error:
        log.exception("a handler failed")
        call.end(UNKNOWN, f"Unexpected {type(error)}")


async def _stream(handler: Any, call: StreamCall) -> None:
    """All shapes but one call, one reply."""
    read = handler.request_deserializer or (lambda data: data)
    write = handler.response_serializer or (lambda message: message)
    try:
        requests = _read(call, read)
        asked = requests if handler.request_streaming else await anext(requests)
        behaviour = handler.stream_stream or handler.unary_stream or handler.stream_unary
        call.write = lambda message: call.send(write(message))
        found = behaviour(asked, call)
        if inspect.isasyncgen(found):
            async for message in found:
                await call.write(message)
        elif handler.response_streaming:
            await found
        else:
            await call.write(await found)
        call.finished()
    except aio.AbortError:
        pass
    except asyncio.CancelledError:
        call.end(CANCELLED)
    except Exception as error:
        log.exception("a handler failed")
        call.end(UNKNOWN, f"Unexpected {type(error)}")


async def _read(call: StreamCall, read: Any) -> AsyncIterator[Any]:
    async for data in call.messages():
        yield read(data)
