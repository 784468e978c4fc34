"""A gRPC server on the event loop: asyncio has the sockets, the compiled part has HTTP/2, handlers are grpc.aio's.

Stands in for `grpc.aio.server`: the same handlers, the same options, the same order of start and stop.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc

from services.runtime.channels import HANDSHAKE
from services.runtime.followed import Followed
from services.runtime.h2.arrivals import Arrivals
from services.runtime.h2.connection import Connection, Terms
from services.runtime.h2.guests import Guests
from services.runtime.h2.native import load
from services.runtime.h2.tls import GOODBYE_S, context_of
from services.runtime.tls.material import Material

MOST_MESSAGE = 4 * 1024 * 1024  # gRPC's own
MOST_CALLS = 4096
IDLE_S = 900.0
HANDSHAKE_S = 120.0  # gRPC's own
BACKLOG = 1024
ARRIVING = 256 * 1024
# How long stopping waits for clients to have heard of it, where none has a call in progress.
HEARD_S = 0.2
# Turns of the event loop from accepting a socket to having its connection.
ACCEPTING = 3


class Server:
    """Raises NoCompiler where the compiled part cannot be had. All its ports speak TLS, or none.

    guests: who may be connected at once. idle_s: a call of which the caller neither sends the rest nor takes the
    reply for so long is ended.
    """

    def __init__(
        self, options: Iterable[tuple[str, Any]] = (), idle_s: float = IDLE_S, guests: Guests | None = None
    ) -> None:
        self._open, self._options, self._idle_s = load(), dict(options), idle_s
        self._guests = guests or Guests()
        self._tls: Callable[[], ssl.SSLContext] | None = None
        self._accept: Callable[[], Connection] | None = None
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._sockets: list[socket.socket] = []
        self._listening: list[asyncio.Server | Arrivals] = []
        self._connections: set[Connection] = set()
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Of the kind that `grpc.method_handlers_generic_handler` makes."""
        for handler in handlers:
            self._handlers |= handler._method_handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Generated code calls both; the other one is enough."""

    def add_insecure_port(self, address: str) -> int:
        """Binds and returns the port, at once. Raises RuntimeError where that cannot be."""
        host, _, port = address.rpartition(":")
        try:
            family, kind, proto, _, place = socket.getaddrinfo(
                host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            made = socket.socket(family, kind, proto)
            self._sockets.append(made)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, self._options.get("grpc.so_reuseport", 1))
            made.bind(place)
            made.listen(BACKLOG)
        except (OSError, ValueError) as error:
            self._close_sockets()
            raise RuntimeError(f"cannot listen on {address}: {error}") from error
        bound: int = made.getsockname()[1]
        return bound

    def add_tls_port(self, address: str, followed: Followed[Material], clients: bool) -> int:
        """The same in TLS; `clients`: who connects must show a certificate of the authority.

        Changed material is shown to the next who connects; connections that stand are not touched.
        """
        self._tls = lambda: context_of(followed.value, clients)
        followed.listeners.append(self._renew)
        return self.add_insecure_port(address)

    async def start(self) -> None:
        terms = self._terms()
        self._accept = lambda: Connection(terms, self._connections)
        await self._listen()

    async def _listen(self) -> None:
        """On a copy of each socket."""
        assert self._accept is not None
        loop, copies = asyncio.get_running_loop(), [one.dup() for one in self._sockets]
        if self._tls is None:
            self._listening = [await loop.create_server(self._accept, sock=one) for one in copies]
            return
        shown, times = self._tls(), (self._handshake_s, GOODBYE_S)
        arriving = self._guests.alike()
        self._listening = [Arrivals(one, self._accept, shown, arriving, *times) for one in copies]

    def _renew(self) -> None:
        assert self._tls is not None
        for one in self._listening:
            if isinstance(one, Arrivals):
                one.tls = self._tls()

    async def stop(self, grace: float | None) -> None:
        """No new connections and calls; those in progress have `grace` seconds."""
        await self._let_nobody_in()
        for connection in list(self._connections):
            connection.go_away()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace or 0):
                await self._quiet()
        for connection in list(self._connections):
            connection.close()
        if self._tls is not None:
            await self._parted()
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> None:
        await self._stopped.wait()

    async def _let_nobody_in(self) -> None:
        """Returns once who was let in last is a connection, and nobody else can come.

        asyncio's server forgets whom it accepts as it is closed: it has to look away first. uvloop's does not.
        """
        for listening in self._listening:
            for one in listening.sockets if isinstance(listening, asyncio.Server) else ():
                asyncio.get_running_loop().remove_reader(one)
        await _accepted()
        for listening in self._listening:
            listening.close()
        self._close_sockets()
        await _accepted()

    def _close_sockets(self) -> None:
        while self._sockets:
            self._sockets.pop().close()

    async def _quiet(self) -> None:
        """Returns when no call is in progress and none can come: clients were told, and close when idle."""
        while tasks := [call.task for one in self._connections for call in one.calls.values() if call.task]:
            await asyncio.wait(tasks)
        waited = 0.0
        while self._connections and waited < HEARD_S:
            await asyncio.sleep(0.01)
            waited += 0.01

    async def _parted(self) -> None:
        """Returns when both sides have ended TLS, or one would not."""
        waited = 0.0
        while self._connections and waited < GOODBYE_S:
            await asyncio.sleep(0.01)
            waited += 0.01
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0.005)

    @property
    def _handshake_s(self) -> float:
        seconds: float = self._options.get(HANDSHAKE, 1000 * HANDSHAKE_S) / 1000
        return seconds

    def _terms(self) -> Terms:
        unary = tuple(path for path, handler in self._handlers.items() if handler.unary_unary)
        return Terms(
            self._open,
            self._handlers,
            unary,
            self._options.get("grpc.max_receive_message_length", MOST_MESSAGE),
            self._options.get("grpc.max_concurrent_streams", MOST_CALLS),
            self._idle_s,
            self._handshake_s,
            self._options.get("grpc.keepalive_time_ms", 7_200_000) / 1000,
            self._options.get("grpc.keepalive_timeout_ms", 20_000) / 1000,
            self._options.get("grpc.max_connection_age_ms", 0) / 1000,
            self._guests,
            memoryview(bytearray(ARRIVING)),
        )


async def _accepted() -> None:
    for _ in range(ACCEPTING):
        await asyncio.sleep(0)
