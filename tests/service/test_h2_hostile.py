"""Our own HTTP/2 server before peers that mean harm, or know no better: each call ends, and memory has a bound."""

import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from services.runtime.h2 import unpack
from services.runtime.h2.call import seconds
from services.runtime.h2.native import load
from tests.service import h2_peer as wire
from tests.service.h2_peer import END_HEADERS, END_STREAM, frame, message, peer, request
from tests.service.test_h2 import MOST, built, failure, serving, until

pytestmark = pytest.mark.skipif(not built(), reason="needs g++ and libnghttp2.so.14")

RESOURCE_EXHAUSTED, INTERNAL, DEADLINE_EXCEEDED = "8", "13", "4"
UNARY = ("/t/echo",)


def session(most: int = MOST, calls: int = 100) -> Any:
    """Of the compiled part, after the preface."""
    made = load()(UNARY, most, calls)
    made.feed(wire.MAGIC + wire.settings())
    made.drain()
    made.feed(frame(wire.SETTINGS, wire.ACK))
    return made


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each."""
    found = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


def drained(made: Any) -> bytes:
    return b"".join(iter(made.drain, b""))


async def test_a_timeout_of_thousands_of_digits_is_none() -> None:
    assert seconds("9" * 8 + "S") == 99_999_999 and seconds("9" * 9 + "S") is None
    async with serving() as (*_, port), peer(port) as raw:
        raw.say(request(1, "/t/echo", b"x", [("grpc-timeout", "9" * 5000 + "S")]), request(3, "/t/echo", b"y"))
        await raw.until_ended(1, 3)
        assert [raw.status(1), raw.status(3)] == ["0", "0"]


@pytest.mark.parametrize("path", ["/t/metadata", "/t/both"])
async def test_binary_metadata_that_is_none_ends_the_call_with_a_status(path: str) -> None:
    async with serving() as (*_, port), peer(port) as raw:
        raw.say(*(request(1 + 2 * n, path, b"", [("x-bin", bad)]) for n, bad in enumerate(("a", "é", "????"))))
        await raw.until_ended(1, 3, 5)
        assert [raw.status(id) for id in (1, 3, 5)] == [INTERNAL] * 3
        assert "x-bin" in dict(raw.heads[1])["grpc-message"]


async def test_replies_whose_metadata_cannot_be_sent_still_end() -> None:
    async def rude(request: bytes, context: Any) -> bytes:
        said = {
            "line": ("x-a", "a\nb"),
            "name": ("X A", "b"),
            "half": ("x-a", "\ud800"),
            "large": ("x-a", "b" * 70_000),
        }
        context.set_trailing_metadata((said[request.decode()],))
        return request

    async with serving(rude) as (channel, *_):
        for kind in ("line", "name", "half"):
            assert (await failure(channel.unary_unary("/t/rude")(kind.encode(), timeout=5))).code().value[0] == 2
        assert (await failure(channel.unary_unary("/t/rude")(b"large", timeout=5))).code().value[0] == int(
            INTERNAL
        )
        assert await channel.unary_unary("/t/echo")(b"x") == b"x"


@pytest.mark.parametrize("path", ["/t/echo", "/t/both", "/t/nobody"])
async def test_metadata_over_their_limit_end_the_call_in_words(path: str) -> None:
    async with serving() as (*_, port), peer(port) as raw:
        many = [(f"x-{n}", "a" * 100) for n in range(130)]
        raw.say(*(request(1 + 2 * n, path, b"x", more) for n, more in enumerate(([("x-a", "b" * 16_150)], many))))
        raw.say(request(5, "/t/echo", b"y", [("x-a", "b" * 15_000)]))
        await raw.until_ended(1, 3, 5)
        assert [raw.status(id) for id in (1, 3, 5)] == [RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED, "0"]
        assert "16384" in dict(raw.heads[1])["grpc-message"]


async def test_bytes_after_the_message_of_a_request_are_not_kept() -> None:
    async with serving() as (*_, port), peer(port) as raw:
        raw.say(wire.call(1, "/t/echo"), frame(wire.DATA, 0, 1, message(b"x") + b"y" * 100))
        await raw.until_ended(1)
        assert raw.status(1) == INTERNAL


async def test_a_message_marked_as_packed_by_nobody_knows_what_is_refused() -> None:
    async with serving() as (*_, port), peer(port) as raw:
        raw.say(request(1, "/t/echo", b"x", packed=True), request(3, "/t/both", b"x", packed=True))
        await raw.until_ended(1, 3)
        assert [raw.status(1), raw.status(3)] == [INTERNAL, INTERNAL]


def test_what_is_claimed_and_not_sent_costs_nothing() -> None:
    most = 1 << 30
    made = session(most)
    before = _address_space()
    for id in range(1, 201, 2):
        made.feed(wire.call(id, "/t/echo") + frame(wire.DATA, 0, id, b"\0" + most.to_bytes(4, "big") + b"x"))
    assert _address_space() - before < 64 * MOST


STARVED = """
import resource
from pathlib import Path
from tests.service import h2_peer as wire
from tests.service.test_h2_hostile import MOST, session

made = session(64 * MOST)
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * MOST, -1))
made.feed(wire.call(1, "/t/echo") + wire.frame(wire.DATA, 0, 1, b"\\0" + (60 * MOST).to_bytes(4, "big")))
piece = wire.frame(wire.DATA, 0, 1, bytes(16_000)) * 4
try:
    for _ in range(1000):
        made.feed(piece)
        made.drain()
except ConnectionError as error:
    print("broken:", error)
"""


def test_memory_that_runs_out_ends_the_connection_and_not_the_process() -> None:
    told = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True)
    assert (told.returncode, told.stdout[:7]) == (0, "broken:"), told.stderr


def test_unfinished_requests_have_a_bound_on_a_connection() -> None:
    made, refused = session(64 * MOST, 4096), set()
    for id in range(1, 701, 2):
        made.feed(wire.call(id, "/t/echo") + frame(wire.DATA, 0, id, b"\0" + (60 * MOST).to_bytes(4, "big")))
        made.feed(frame(wire.DATA, 0, id, bytes(16_000)) * 65)
        refused |= {stream for kind, _, stream, _ in frames(drained(made)) if kind == wire.HEADERS}
    # 256 MiB of them; whoever had begun before is let in to its end.
    assert 80 < len(refused) < 100 and min(refused) > 501


def test_messages_without_bytes_have_a_weight() -> None:
    made = session()
    made.feed(wire.call(1, "/t/both"))
    drained(made)
    windows = 0
    for _ in range(40):
        made.feed(frame(wire.DATA, 0, 1, bytes(5) * 3000))
        windows += sum(stream == 1 and kind == wire.WINDOW for kind, _, stream, _ in frames(drained(made)))
    assert windows < 2
    for _ in range(120_000):
        made.read(1, 0)
    assert any(stream == 1 and kind == wire.WINDOW for kind, _, stream, _ in frames(drained(made)))


async def test_packed_messages_of_a_stream_stay_packed_until_they_are_read() -> None:
    bomb = zlib.compress(bytes(MOST + 1))
    async with serving() as (channel, handlers, _, port), peer(port) as raw:
        raw.say(wire.call(1, "/t/both", [("grpc-encoding", "deflate")]))
        raw.say(*(frame(wire.DATA, 0, 1, message(one, True)) for one in (zlib.compress(b"fine"), bomb, bomb)))
        await raw.until_ended(1)
        assert raw.bodies[1] == message(b"fine") and raw.status(1) == RESOURCE_EXHAUSTED
        await until(lambda: handlers.ended == ["closed"])


@pytest.mark.parametrize("path", ["/t/echo", "/t/both"])
async def test_a_message_that_unpacks_to_a_thousand_times_as_much_holds_up_nobody(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()

    def seen(*given: Any) -> bytes:
        threads.add(threading.current_thread())
        return plain(*given)

    plain = unpack.unpacked
    monkeypatch.setattr(unpack, "unpacked", seen)
    async with serving() as (*_, port), peer(port) as raw:
        body = bytes(range(256)) * 4000
        raw.say(request(3, path, zlib.compress(body), [("grpc-encoding", "deflate")], packed=True))
        raw.say(*(frame(wire.WINDOW, 0, id, MOST.to_bytes(4, "big")) for id in (0, 3)))
        await raw.until_ended(3)
        assert raw.bodies[3] == message(body) and raw.status(3) == "0"
    assert threads and threading.main_thread() not in threads


async def test_more_calls_than_may_be_are_turned_away() -> None:
    async with serving(**{"grpc.max_concurrent_streams": 4}) as (channel, handlers, _, port), peer(port) as raw:
        raw.say(*(request(id, "/t/wait", b"60") for id in range(1, 13, 2)))
        await raw.until_ended(9, 11)
        assert raw.resets == {9: 7, 11: 7}


async def test_requests_that_stay_unfinished_end() -> None:
    async with serving(idle_s=0.2) as (channel, handlers, _, port), peer(port) as raw:
        raw.say(wire.call(1, "/t/echo"), wire.call(3, "/t/pour"), wire.call(5, "/t/echo"))
        raw.say(frame(wire.DATA, 0, 5, message(b"x")[:3]))
        # Whoever has said something and was heard is left to the handler.
        raw.say(wire.call(7, "/t/both"), frame(wire.DATA, 0, 7, message(b"x")))
        await raw.until_ended(1, 3, 5)
        assert [raw.status(id) for id in (1, 3, 5)] == [DEADLINE_EXCEEDED] * 3
        assert 7 not in raw.ended


async def test_replies_that_nobody_takes_end() -> None:
    async with serving(idle_s=0.2) as (_, handlers, server, port), peer(port, wire.settings(x4=0)) as raw:
        raw.say(request(1, "/t/echo", b"x" * 1000), request(3, "/t/pour"))
        await raw.until_ended(1, 3)
        assert raw.resets == {1: 8, 3: 8}
        assert handlers.written == 0 or handlers.written < 1000
        await until(lambda: not any(one.calls for one in server._connections))


def test_replies_that_wait_have_a_bound_on_a_connection() -> None:
    made = session(64 * MOST)
    made.feed(wire.settings(x4=0))
    body, after = bytes(64 * MOST), (("grpc-status", "0"),)
    for id in range(1, 13, 2):
        made.feed(request(id, "/t/echo"))
        made.reply(id, (), body, after)
    ended = {
        stream for kind, flags, stream, _ in frames(drained(made)) if kind == wire.HEADERS and flags & END_STREAM
    }
    assert ended == {7, 9, 11}


def test_acknowledgements_of_nothing_bring_no_flood() -> None:
    made = session()
    made.go_away()
    made.feed(frame(wire.PING, wire.ACK, 0, bytes(8)) * 1000)
    assert sum(kind == wire.GOAWAY for kind, *_ in frames(drained(made))) == 2


@pytest.mark.parametrize(
    "flood",
    [
        frame(wire.PING, 0, 0, bytes(8)),
        frame(wire.SETTINGS, 0, 0, bytes((0, 4, 0, 0, 255, 255))),
        frame(wire.CONTINUATION, 0, 1, wire.literal("x-a", "b" * 1000)),
    ],
)
async def test_floods_end_the_connection_and_harm_nobody(flood: bytes) -> None:
    first = wire.call(1, "/t/echo", flags=0) if flood[3] == wire.CONTINUATION else b""
    async with serving() as (channel, *_, port), peer(port) as raw:
        raw.say(first, flood * 20_000)
        await raw.until_closed()
        assert await channel.unary_unary("/t/echo")(b"still here") == b"still here"


@pytest.mark.parametrize(
    "head",
    [
        wire.fields("/t/echo", [(":path", "/t/echo")]),
        wire.fields("/t/echo")[len(wire.literal(":method", "POST")) :],
        wire.fields("/t/echo").replace(wire.literal(":path", "/t/echo"), b""),
        wire.fields("/t/echo", [("", "x")]),
        wire.fields("/t/echo", [("x-a", "b" * 16_150)]),
        wire.fields("/t/\xff\xfe"),
    ],
)
async def test_heads_that_are_none_end_their_call_alone(head: bytes) -> None:
    async with serving() as (*_, port), peer(port) as raw:
        pieces = [head[at : at + 16_000] for at in range(0, len(head), 16_000)]
        raw.say(frame(wire.HEADERS, END_HEADERS * (len(pieces) == 1) | END_STREAM, 1, pieces[0]))
        raw.say(*(frame(wire.CONTINUATION, END_HEADERS, 1, piece) for piece in pieces[1:]))
        raw.say(request(3, "/t/echo", b"x"))
        await raw.until_ended(1, 3)
        assert raw.status(3) == "0" and (1 in raw.resets or raw.status(1) != "0")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * 4096
