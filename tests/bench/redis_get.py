"""The floor of a hit in Redis: a connection that sends at once what waits and reads in order, and nothing else.

No bound, no fault is survived, no cancellation: the least that one pipelined GET can cost.
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import parse_url

# As long as an answer of CountTokens with what the cache writes in front of it.
KEY, VALUE = "bench:value", b"x" * 150
_NOTHING = object()


class Connection(asyncio.Protocol):
    """Replies reach the futures in the order of the questions."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _NOTHING:
            self._waiting.popleft().set_result(reply)

    def ask(self, *words: str | bytes) -> "asyncio.Future[Any]":
        reply = self._loop.create_future()
        self._waiting.append(reply)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(words))  # type: ignore[arg-type]
        return reply

    def _send(self) -> None:
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


async def connected(url: str) -> Connection:
    """To the server at `url`, which has the value from now on."""
    place = parse_url(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, place["host"], place["port"])
    await connection.ask("AUTH", place["password"])
    await connection.ask("SET", KEY, VALUE)
    return connection
