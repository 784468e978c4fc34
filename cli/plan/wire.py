"""Unary calls written as HTTP/2 frames by hand (RFC 9113, RFC 7541): a caller that costs next to nothing beside
what it measures. In clear, on one connection; knows no statuses but answered and not.
"""

import asyncio
import struct
from collections.abc import Sequence

from services.runtime.errors import Unavailable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MOST_BYTES = 16_384  # of a frame, if nobody says otherwise
HEAD, PREFIX = 9, 5  # bytes before a frame's payload, and before a message in DATA
GREETING_S = 10.0
WIDE = 2**31 - 1 - 65_535  # added to what a connection may hold back

Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def block(fields: Fields) -> bytes:
    """A header block of literals that nobody has to remember; names and values under 127 bytes."""
    texts = ((name.encode(), value.encode()) for name, value in fields)
    return b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in texts)


class Connection(asyncio.Protocol):
    """Sends calls, and ends each by its reply's message; Unavailable where it ends without one."""

    def __init__(self) -> None:
        self._streams: dict[int, tuple[asyncio.Future[bytes], bytearray]] = {}
        self._next, self._buffer = 1, bytearray()
        # Set by the server's settings: before them, a long message would be more than it takes (RFC 9113, 6.9.2).
        self.greeted = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        settings = struct.pack(
            ">HIHI", 2, 0, 4, 2**31 - 1
        )  # no pushes; a stream may hold back as much as it likes
        transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW, 0, 0, struct.pack(">I", WIDE)))

    def call(self, headers: bytes, message: bytes) -> "asyncio.Future[bytes]":
        """The reply's message; `headers` as `block` makes them. Unavailable once the connection is gone."""
        stream, self._next = self._next, self._next + 2
        body = struct.pack(">BI", 0, len(message)) + message
        parts = [body[at : at + MOST_BYTES] for at in range(0, len(body), MOST_BYTES)]
        frames = [frame(HEADERS, END_HEADERS, stream, headers)]
        frames += [frame(DATA, END_STREAM * (part is parts[-1]), stream, part) for part in parts]
        self._write(b"".join(frames))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._streams[stream] = future, bytearray()
        return future

    def data_received(self, data: bytes) -> None:
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= HEAD:
            head, flags, stream = struct.unpack_from(">IBI", buffer, at)
            end = at + HEAD + (head >> 8)
            if len(buffer) < end:
                break
            self._framed(head & 0xFF, flags, stream, bytes(buffer[at + HEAD : end]))
            at = end
        del buffer[:at]

    def _framed(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA and stream in self._streams:
            self._streams[stream][1].extend(payload)
        if kind == SETTINGS and not flags & ACK:
            self._write(frame(SETTINGS, ACK, 0))
            self.greeted.set()
        if kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self._end(stream)

    def _end(self, stream: int) -> None:
        future, found = self._streams.pop(stream)
        if future.done():
            return
        if len(found) < PREFIX:
            future.set_exception(Unavailable("a call ended without an answer: its service refused or broke off"))
        else:
            future.set_result(bytes(found[PREFIX:]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.greeted.set()
        for stream in list(self._streams):
            self._end(stream)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def check(self) -> asyncio.WriteTransport:
        """What writes. Unavailable once the connection is gone."""
        if self._transport is None:
            raise Unavailable("the connection is gone: the server closed it, or its pings went unanswered")
        return self._transport

    def _write(self, data: bytes) -> None:
        self.check().write(data)


def headers(address: str, path: str, metadata: Fields = ()) -> bytes:
    """Of a unary gRPC call that waits a minute."""
    usual = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address)]
    grpc = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", "60S")]
    return block([*usual, *grpc, *metadata])


async def connected(address: str) -> Connection:
    """To `host:port`, once the server has said what it takes."""
    host, _, port = address.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    async with asyncio.timeout(GREETING_S):
        await connection.greeted.wait()
    connection.check()
    return connection
