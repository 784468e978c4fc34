"""A client of HTTP/2 that says whatever it likes, frame by frame. Knows no rule of the protocol."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import hpack

MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
Fields = Iterable[tuple[str, str]]


def frame(kind: int, flags: int = 0, id: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", id) + payload


def settings(**values: int) -> bytes:
    """Of names like `x4`: the number of the setting."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", int(name[1:]), v) for name, v in values.items()))


def fields(path: str, more: Fields = ()) -> bytes:
    """A request's head. Uses no table of the connection's: every head stands alone."""
    told = [("method", "POST"), ("scheme", "http"), ("authority", "here"), ("path", path)]
    usual = [*((f":{name}", value) for name, value in told), ("content-type", "application/grpc")]
    return b"".join(literal(name, value) for name, value in (*usual, *more))


def literal(name: str, value: str) -> bytes:
    """A field as RFC 7541, 6.2.2 has it: by name and value, never indexed."""
    return b"\x00" + _text(name) + _text(value)


def call(id: int, path: str, more: Fields = (), flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, id, fields(path, more))


def message(body: bytes, packed: bool = False) -> bytes:
    return bytes([packed]) + struct.pack(">I", len(body)) + body


def request(id: int, path: str, body: bytes = b"", more: Fields = (), packed: bool = False) -> bytes:
    return call(id, path, more) + frame(DATA, END_STREAM, id, message(body, packed))


def _text(value: str) -> bytes:
    data = value.encode("latin-1")
    size = len(data)
    if size < 127:
        return bytes([size]) + data
    size, head = size - 127, b"\x7f"
    while size > 127:
        head, size = head + bytes([size % 128 + 128]), size // 128
    return head + bytes([size]) + data


class Peer:
    """What came of the server, by stream: `heads` are all fields in order, `resets` error codes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heads: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.goaways: list[bytes] = []
        self.ended: set[int] = set()
        self._decoder = hpack.Decoder()

    def say(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def status(self, id: int) -> str:
        return dict(self.heads[id])["grpc-status"]

    async def until_ended(self, *ids: int) -> None:
        """Reads until these streams are over; EOFError when the connection is before."""
        async with asyncio.timeout(5):
            while not set(ids) <= self.ended:
                await self.step()

    async def until_closed(self) -> None:
        async with asyncio.timeout(5):
            try:
                while True:
                    await self.step()
            except (EOFError, ConnectionResetError):
                return

    async def step(self) -> None:
        head = await self.reader.readexactly(9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        id, payload = int.from_bytes(head[5:], "big"), await self.reader.readexactly(size)
        if kind == HEADERS:
            found = self._decoder.decode(payload)
            self.heads.setdefault(id, []).extend((str(name), str(value)) for name, value, *_ in found)
        elif kind == DATA:
            self.bodies[id] = self.bodies.get(id, b"") + payload
        elif kind == RST:
            self.resets[id] = int.from_bytes(payload, "big")
            self.ended.add(id)
        elif kind == GOAWAY:
            self.goaways.append(payload)
        elif kind == PING and not flags & ACK:
            self.say(frame(PING, ACK, 0, payload))
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.ended.add(id)


@asynccontextmanager
async def peer(port: int, *first: bytes) -> AsyncIterator[Peer]:
    """Connected; `first` follows the preface, else plain settings do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(MAGIC + (b"".join(first) or settings()))
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
