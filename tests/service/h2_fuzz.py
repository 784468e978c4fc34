"""Frames of every kind, right, wrong and damaged, into the compiled part of our HTTP/2. Knows no socket.

    python -m tests.service.h2_fuzz SECONDS SEED [FLAG OF THE COMPILER]...

With -fsanitize=address,undefined, LD_PRELOAD names the sanitizers' libraries (`sanitized` below).
"""

import os
import random
import subprocess
import sys
import time
from typing import Any

from services.runtime.h2.native import BEGIN, CALL, END, MESSAGE, library, load
from tests.service import h2_peer as wire
from tests.service.h2_peer import frame, literal

SANITIZERS = ("-fsanitize=address,undefined", "-g")
# What leaks of Python's own stays unread: what the compiled part leaks is told with its name.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=99",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
MOST = 1 << 20
UNARY = ("/t/echo", "/t/other")
PATHS = (*UNARY, "/t/both", "/none", "")
ENDED = (("grpc-status", "0"),)
FIELDS = (
    ("grpc-timeout", "1S"),
    ("grpc-timeout", "9" * 5000 + "S"),
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "none"),
    ("te", "trailers"),
    ("content-type", "text/plain"),
    ("X-Upper", "x"),
    ("", ""),
    (":path", "/t/echo"),
    ("x-bin", "?"),
    ("x-a", "\r\n"),
    ("x-request-id", "1"),
    ("x-a", "b" * 3000),
)


class Peer:
    """What one says, of streams that it opened or did not. Deterministic by `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._open, self._next = chance, [1], 1
        # How often it breaks rules that end the whole connection.
        self._wild = chance.choice((0.0, 0.002, 0.05))

    def says(self) -> bytes:
        said = b"".join(self._one() for _ in range(self._chance.randint(1, 12)))
        if self._chance.random() < self._wild:
            said += self._any()
        return self._damaged(said) if self._chance.random() < self._wild else said

    def _one(self) -> bytes:
        kinds = (self._call, self._call, self._data, self._data, self._data, self._control)
        return self._chance.choice(kinds)() if self._open else self._call()

    def _call(self) -> bytes:
        self._next += 2
        more = self._chance.sample(FIELDS, 2) if self._chance.random() < 0.2 else ()
        flags = self._chance.choice((0, 0, 0, 0, wire.END_STREAM)) | self._odd(wire.END_HEADERS, 0)
        if not flags & wire.END_STREAM:
            self._open.append(self._next)
        return wire.call(self._next, self._chance.choice(PATHS), more, flags)

    def _data(self) -> bytes:
        body = bytes(self._chance.choice((0, 1, 4, 5, 100, 16_000)))
        size = self._chance.choice((len(body),) * 8 + (0, MOST, MOST + 1, (1 << 32) - 1))
        told = bytes([self._chance.choice((0, 0, 0, 1, 255))]) + size.to_bytes(4, "big") + body
        flags = self._chance.choice((0, wire.END_STREAM)) | self._odd(0, 8)
        id = self._stream()
        if flags & wire.END_STREAM:
            self._leaves(id)
        return frame(wire.DATA, flags, id, told[: self._chance.choice((len(told),) * 5 + (3,))])

    def _control(self) -> bytes:
        id, number, small = self._stream(), self._number(), (1000).to_bytes(4, "big")
        setting, value = self._chance.choice(((1, 0), (1, 4096), (3, 0), (4, 0), (4, 70_000), (6, 100)))
        kind, flags, id, payload = self._chance.choice(
            (
                (wire.RST, 0, id, number),
                (wire.HEADERS, 5, id, literal("x-after", "x") + literal("grpc-encoding", "x")),
                (wire.WINDOW, 0, self._odd(id, 0), number),
                (wire.WINDOW, 0, 0, small),
                (wire.SETTINGS, 0, 0, bytes([0, setting]) + value.to_bytes(4, "big")),
                (wire.SETTINGS, 0, 0, bytes([0, self._odd(16, 5)]) + number),
                (wire.PING, self._chance.choice((0, 1)), 0, bytes(8)),
                (wire.PRIORITY, 0, id, self._odd(0, id).to_bytes(4, "big") + b"\x10"),
            )
        )
        if kind in (wire.RST, wire.HEADERS):
            self._leaves(id)
        return frame(kind, flags, id, payload)

    def _leaves(self, id: int) -> None:
        if id in self._open:
            self._open.remove(id)

    def _any(self) -> bytes:
        kind, flags = self._chance.randint(0, 12), self._chance.randint(0, 255)
        return frame(kind, flags, self._stream(), self._chance.randbytes(self._chance.randint(0, 40)))

    def _stream(self) -> int:
        return self._odd(self._chance.choice(self._open[-8:] or [1]), self._chance.randint(0, self._next + 4))

    def _odd(self, usual: int, odd: int) -> int:
        return odd if self._chance.random() < self._wild else usual

    def _number(self) -> bytes:
        return self._chance.choice((0, 1, 8, 100, 65_535, 1 << 20, (1 << 31) - 1)).to_bytes(4, "big")

    def _damaged(self, said: bytes) -> bytes:
        found = bytearray(said)
        for _ in range(self._chance.randint(1, 4)):
            found[self._chance.randrange(len(found))] = self._chance.randint(0, 255)
        return bytes(found[: self._chance.randint(1, len(found))])


class Owner:
    """Answers as a server may, and at times as it must not. Each call is told once."""

    def __init__(self, session: Any, chance: random.Random) -> None:
        self._session, self._chance = session, chance
        self.begun: set[int] = set()

    def takes(self, events: Any) -> None:
        for kind, id, *_ in events:
            if kind in (CALL, BEGIN):
                assert id not in self.begun
                self.begun.add(id)
            assert kind not in (MESSAGE, END) or id in self.begun
            for _ in range(self._chance.randint(0, 3)):
                self._acts(id)

    def _acts(self, id: int) -> None:
        session, chance = self._session, self._chance
        body = bytes(chance.choice((0, 1, 100, 40_000)))
        chance.choice(
            (
                lambda: session.reply(id, (("x-a", "b"),), body, ENDED),
                lambda: session.reply(id, (), body, (*ENDED, ("x-long", "b" * chance.choice((1, 70_000))))),
                lambda: session.head(id, ()),
                lambda: session.send(id, body),
                lambda: session.finish(id, (*ENDED, ("X bad", "\n"))),
                lambda: session.finish(chance.randint(0, 50), ENDED),
                lambda: session.read(id, chance.choice((0, 1, 1 << 40))),
                session.drain,
                session.ping,
                session.sweep,
                session.go_away if chance.random() < 0.02 else session.told,
            )
        )()


def connection(opened: Any, chance: random.Random) -> int:
    """One connection until it breaks or grew old; how many calls it told."""
    session = opened(UNARY, MOST, chance.choice((4, 1000, 1000)))
    peer, owner = Peer(chance), Owner(session, chance)
    try:
        hello = wire.MAGIC + wire.settings() + frame(wire.SETTINGS, wire.ACK)
        owner.takes(session.feed(hello + wire.call(1, "/t/both")))
        for _ in range(60):
            said = peer.says()
            cut = chance.randint(0, len(said))
            owner.takes(session.feed(said[:cut]))
            owner.takes(session.feed(said[cut:]))
            if chance.random() < 0.8:
                session.drain()
            owner.takes(session.told())
    except ConnectionError:
        pass
    return len(owner.begun)


def answers(opened: Any) -> None:
    session = opened(UNARY, MOST, 4)
    events = session.feed(wire.MAGIC + wire.settings() + wire.request(1, "/t/echo", b"x"))
    assert [(kind, id, more[3]) for kind, id, *more in events] == [(CALL, 1, b"x")]
    session.reply(1, (), b"y", ENDED)
    assert wire.message(b"y") in session.drain()


def run(opened: Any, seed: int, seconds: float = 0, connections: int = 0) -> tuple[int, int]:
    """Connections and calls that were made in so many seconds, or of so many connections."""
    chance, until, done, calls = random.Random(seed), time.monotonic() + seconds, 0, 0
    while done < connections or time.monotonic() < until:
        calls += connection(opened, chance)
        done += 1
    answers(opened)
    return done, calls


def sanitized(seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """In a process of its own, with the compiler's sanitizers."""
    library(SANITIZERS)
    found = [
        subprocess.run(["g++", f"-print-file-name={name}.so"], capture_output=True, text=True, check=True).stdout
        for name in ("libasan", "libubsan", "libstdc++")
    ]
    return subprocess.run(
        [sys.executable, "-m", "tests.service.h2_fuzz", str(seconds), str(seed), *SANITIZERS],
        env={
            **os.environ,
            **OPTIONS,
            "LD_PRELOAD": " ".join(map(str.strip, found)),
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": ":".join(sys.path),
        },
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    made, told = run(load(tuple(sys.argv[3:])), int(sys.argv[2]), float(sys.argv[1]))
    print(f"{made} connections, {told} calls")
