"""The measuring caller's frames: what it writes, and how its calls end."""

import asyncio
import struct
from unittest.mock import Mock

import pytest

from cli.plan.wire import (
    ACK,
    DATA,
    END_STREAM,
    HEADERS,
    MOST_BYTES,
    PING,
    RESET,
    SETTINGS,
    Connection,
    connected,
    frame,
    headers,
)
from services.runtime.errors import Unavailable

HEAD = headers("localhost:1", "/a.B/C", [("x", "y")])


def opened() -> tuple[Connection, Mock]:
    """A connection, and what writes for it; the preface is away."""
    connection, transport = Connection(), Mock(spec=asyncio.Transport)
    connection.connection_made(transport)
    transport.reset_mock()
    return connection, transport


def answer(stream: int, message: bytes) -> bytes:
    body = struct.pack(">BI", 0, len(message)) + message
    return frame(HEADERS, 4, stream) + frame(DATA, 0, stream, body) + frame(HEADERS, 4 | END_STREAM, stream)


async def test_answers_find_their_calls_however_the_bytes_arrive() -> None:
    connection, _ = opened()
    first, second = connection.call(HEAD, b"1"), connection.call(HEAD, b"2")
    for byte in answer(3, b"two") + answer(1, b"one"):
        connection.data_received(bytes([byte]))
    assert (await first, await second) == (b"one", b"two")


async def test_nothing_is_sent_before_the_server_has_said_what_it_takes() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(24)).startswith(b"PRI")
        assert not told.done()
        writer.write(frame(SETTINGS, 0, 0))
        while frame(SETTINGS, ACK, 0) not in bytes(got):
            got.extend(await reader.read(100))
        writer.close()

    got = bytearray()
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server, asyncio.timeout(10):
        port = server.sockets[0].getsockname()[1]
        told = asyncio.create_task(connected(f"127.0.0.1:{port}"))
        connection = await told
        assert connection.greeted.is_set()
        connection.close()


async def test_a_long_message_goes_in_frames_of_which_the_last_ends_the_stream() -> None:
    connection, transport = opened()
    connection.call(HEAD, bytes(MOST_BYTES))
    sent = transport.write.call_args.args[0]
    data = sent[9 + len(HEAD) :]
    assert data[:9] == struct.pack(">IBI", MOST_BYTES << 8 | DATA, 0, 1)
    assert data[9 + MOST_BYTES :][:9] == struct.pack(">IBI", 5 << 8 | DATA, END_STREAM, 1)


@pytest.mark.parametrize("end", [frame(HEADERS, 4 | END_STREAM, 1), frame(RESET, 0, 1, bytes(4))])
async def test_a_call_without_an_answer_fails(end: bytes) -> None:
    connection, _ = opened()
    call = connection.call(HEAD, b"")
    connection.data_received(end)
    with pytest.raises(Unavailable, match="without an answer"):
        await call


async def test_a_lost_connection_ends_its_calls_and_a_ping_is_answered() -> None:
    connection, transport = opened()
    connection.data_received(frame(PING, 0, 0, b"12345678"))
    transport.write.assert_called_once_with(frame(PING, ACK, 0, b"12345678"))
    call = connection.call(HEAD, b"")
    connection.connection_lost(None)
    with pytest.raises(Unavailable):
        await call
    with pytest.raises(Unavailable, match="connection is gone"):
        connection.call(HEAD, b"")
    assert connection.greeted.is_set(), "who waits for its greeting hears of it at once"
