"""A shared line to Redis, over a transport that the test holds in its hands."""

import asyncio
import random
import socket
import time
from typing import Any

import hiredis
import pytest
import uvloop

from services.runtime.redis import line as module
from services.runtime.redis.line import Line

BOUND_S = 0.05


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False
        self.line: Line | None = None

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True
        assert self.line is not None
        asyncio.get_running_loop().call_soon(self.line.connection_lost, None)


def connected(bound_s: float = BOUND_S) -> tuple[Line, Wire]:
    line, wire = Line(bound_s), Wire()
    wire.line = line
    line.connection_made(wire)
    return line, wire


def hold(seconds: float) -> None:
    """Holds the loop, as a long callback does."""
    time.sleep(seconds)


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


async def test_what_waits_in_one_turn_is_one_write_and_replies_come_in_order():
    line, wire = connected()
    replies = [line.ask("GET", str(number)) for number in range(100)]
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [b"".join(hiredis.pack_command(("GET", str(number))) for number in range(100))]
    line.data_received(b"".join(bulk(str(number)) for number in range(100)))
    assert [await reply for reply in replies] == [str(number).encode() for number in range(100)]
    line.ask("PING")
    await asyncio.sleep(0)
    assert wire.writes[1:] == [b"*1\r\n$4\r\nPING\r\n"]
    line.close()


async def test_replies_cut_anywhere_reach_their_own_questions():
    chance = random.Random(7)
    for _ in range(50):
        line, _wire = connected()
        said = [chance.choice([None, "", "a" * chance.randrange(3000), "\r\n$1\r\n"]) for _ in range(20)]
        replies = [line.ask("GET", "k") for _ in said]
        data = b"".join(b"$-1\r\n" if text is None else bulk(text) for text in said)
        while data:
            size = chance.randrange(1, 400)
            line.data_received(data[:size])
            data = data[size:]
        assert [await reply for reply in replies] == [None if t is None else t.encode() for t in said]
        line.close()


async def test_an_error_is_the_answer_of_one_alone():
    line, _ = connected()
    first, second = line.ask("GET", "a"), line.ask("GET", "b")
    line.data_received(b"-WRONGTYPE no\r\n+OK\r\n")
    assert isinstance(await first, hiredis.ReplyError) and await second == b"OK" and not line.over
    line.close()


async def test_the_reply_to_one_who_left_is_nobody_elses():
    line, _ = connected()
    left, stays = line.ask("GET", "a"), line.ask("GET", "b")
    left.cancel()
    line.data_received(bulk("a") + bulk("b"))
    assert await stays == b"b"
    line.close()


async def test_one_that_takes_too_long_ends_alone_and_its_late_reply_is_dropped():
    line, wire = connected()
    early, slow = line.ask("GET", "early"), line.ask("GET", "slow")
    await asyncio.sleep(BOUND_S / 2)
    line.data_received(bulk("early"))
    young = line.ask("GET", "young")
    with pytest.raises(TimeoutError):
        await slow
    assert await early == b"early" and not young.done() and not line.over
    line.data_received(bulk("slow") + bulk("young"))
    assert await young == b"young" and not wire.aborted
    line.close()


async def test_a_silent_server_ends_the_line_and_all_who_wait():
    line, wire = connected()
    old = line.ask("GET", "old")
    with pytest.raises(TimeoutError):
        await old
    young = line.ask("GET", "young")
    with pytest.raises(ConnectionError, match="silent"):
        await asyncio.wait_for(young, 5)
    assert line.over and wire.aborted
    with pytest.raises(ConnectionError):
        line.ask("GET", "new")


async def test_a_line_without_questions_is_not_silent():
    line, _ = connected(0.01)
    reply = line.ask("PING")
    line.data_received(b"+PONG\r\n")
    await asyncio.sleep(0.1)
    assert await reply == b"PONG" and not line.over
    line.close()


def test_what_arrived_while_this_process_was_held_up_is_not_late():
    """Under uvloop, whose timers come before what has arrived."""

    async def held() -> bytes:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        with theirs:
            _, line = await loop.create_connection(lambda: Line(BOUND_S), sock=ours)
            reply = line.ask("PING")
            await asyncio.sleep(0.01)
            assert theirs.recv(100) == b"*1\r\n$4\r\nPING\r\n"
            theirs.send(b"+PONG\r\n")
            hold(3 * BOUND_S)
            try:
                return bytes(await reply)
            finally:
                line.close()

    assert uvloop.run(held()) == b"PONG"


@pytest.mark.parametrize("data", [b"+ONE\r\n+TWO\r\n", b"HTTP/1.1 400\r\n"])
async def test_what_nobody_asked_or_can_be_read_ends_the_line(data: bytes):
    line, wire = connected()
    reply, waiting = line.ask("PING"), None
    if data.startswith(b"HTTP"):
        waiting = line.ask("PING")
    line.data_received(data)
    assert line.over and wire.aborted
    if waiting is None:
        assert await reply == b"ONE"
    else:
        for one in (reply, waiting):
            with pytest.raises(ConnectionError, match="out of step"):
                await one
    line.data_received(b"+LATE\r\n")


async def test_a_lost_connection_ends_all_who_wait():
    line, _ = connected()
    replies = [line.ask("PING") for _ in range(3)]
    line.connection_lost(None)
    assert all(isinstance(one, ConnectionError) for one in await asyncio.gather(*replies, return_exceptions=True))


async def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    line, _ = connected()
    first, second = line.ask("PING"), line.ask("PING")
    with pytest.raises(ConnectionError, match="overrun"):
        line.ask("PING")
    line.data_received(b"+A\r\n+B\r\n")
    assert (await first, await second) == (b"A", b"B")
    line.close()
