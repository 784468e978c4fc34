"""Short calls to one replica that wait together travel together, on a stream that stays open.

Without a clock: a lone call goes at once; of several, those that come until the service has taken the last
message, and while the loop brings more of them, go in the next. Each keeps its deadline, its cancellation, its
metadata and its status; what the stream itself suffers is UNAVAILABLE to all that are on it.
"""

import asyncio
import time
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any

from grpc import StatusCode, aio

from gateway.ending import end_of, settled
from gateway.relay import Metadata, reason_of
from maas.internal.v1 import envelope_service_pb2 as pb
from services.runtime.envelope.methods import EXCHANGE, METHODS, MOST_BYTES, NOT_LISTED
from services.runtime.envelope.outbox import Outbox
from services.runtime.errors import Code
from services.runtime.status import DETAILS_KEY, grpc_code
from services.runtime.wire import framed

ITEMS = b"\x0a"  # field 1 of ExchangeRequest, which carries its length
# While calls come in company: so many rounds of the loop without a further one end the wait for more, or so many
# that wait. Rounds are short where nothing comes; a call is accepted every few of them.
PATIENCE, COMPANY = 8, 8
ACKNOWLEDGE = pb.ExchangeRequest(acknowledge=True).SerializeToString()
PLAIN_S = 30.0  # a server without envelopes is not asked again for so long


class NotTaken(Exception):
    """Nothing of the call was begun: the other end does not take it this way. It may be sent by itself."""


class Envelope:
    """To one replica. Its stream is opened by the first call, and anew by the first after it ended."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._link: _Link | None = None
        # Those that have not ended: one that closes may still have answers to bring.
        self._links: set[_Link] = set()
        self._plain_until = 0.0

    def takes(self, path: str, body: bytes) -> bool:
        """Whether such a call may travel together with others."""
        fits = path in METHODS and len(body) <= MOST_BYTES
        return fits and (not self._plain_until or time.monotonic() >= self._plain_until)

    async def call(self, path: str, body: bytes, timeout: float | None, metadata: Metadata) -> Any:
        """The EnvelopeReply to a call, `timeout` in seconds.

        Raises AioRpcError as a call by itself does, or NotTaken.
        """
        try:
            reply = await self._opened().ask(path, body, timeout, metadata)
        except NotTaken:
            self._plain_until = time.monotonic() + PLAIN_S
            raise
        if reply.code:
            raise _error(reply)
        return reply

    async def close(self) -> None:
        """Ends its streams, and what is on them."""
        for link in list(self._links):
            await link.close()

    def _opened(self) -> "_Link":
        if self._link is None or not self._link.open:
            self._link = _Link(self._channel)
            self._links.add(self._link)
            self._link.reader.add_done_callback(partial(self._forget, self._link))
        return self._link

    def _forget(self, link: "_Link", _: object) -> None:
        self._links.discard(link)


class _Link:
    """One stream, from its opening to its end."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stream = channel.stream_stream(EXCHANGE)()
        self._outbox = Outbox(self._write, self._ready)
        self._waiting: dict[int, asyncio.Future[pb.EnvelopeReply]] = {}
        self._ids = count(1)
        self._loop = asyncio.get_running_loop()
        self._patience = 0
        # Messages that asked to be acknowledged, and those that were.
        self._asked = self._heard = 0
        self._hearing: asyncio.Future[None] | None = None
        # Whether more may be sent on it.
        self.open = True
        self._leaving: asyncio.Task[None] | None = None
        # In a context of its own: it outlives the call that it begins in.
        self.reader = asyncio.create_task(self._read(), context=Context())

    async def ask(self, path: str, body: bytes, timeout: float | None, metadata: Metadata) -> Any:
        id = next(self._ids)
        found = self._waiting[id] = self._loop.create_future()
        late = None if timeout is None else self._loop.call_later(timeout, _late, found)
        self._outbox.put(id, _item(id, path, body, timeout, metadata))
        try:
            return await found
        finally:
            if late is not None:
                late.cancel()
            if self._waiting.pop(id, None) is not None:
                self._cancel(id)

    async def close(self) -> None:
        self._stream.cancel()
        await asyncio.wait({self.reader})

    async def _write(self, message: bytes) -> None:
        # Alone on the stream, nothing is to be held back behind it: then no answer but its reply is needed.
        crowded = len(self._waiting) > 1
        self._patience = PATIENCE if crowded else self._patience // 2
        if crowded:
            self._asked += 1
            message += ACKNOWLEDGE
        await self._stream.write(message)

    async def _ready(self) -> None:
        """Returns once the service has taken what was sent, and company for what waits has had its chance."""
        while self._heard < self._asked:
            self._hearing = self._loop.create_future()
            await self._hearing
        left = self._patience
        while left and (before := len(self._outbox)) < COMPANY:
            await asyncio.sleep(0)
            left = self._patience if len(self._outbox) > before else left - 1

    def _hear(self, taken: int) -> None:
        self._heard = taken
        if self._hearing is not None and not self._hearing.done():
            self._hearing.set_result(None)

    def _cancel(self, id: int) -> None:
        """Its caller left, or its time is over; what was not even sent never will be."""
        if not self._outbox.withdraw(id):
            self._outbox.put(-id, pb.ExchangeRequest(cancelled_ids=[id]).SerializeToString())

    async def _read(self) -> None:
        ends: list[aio.AioRpcError] = []
        self._stream.add_done_callback(lambda _: ends.append(end_of(self._stream)))
        end: aio.AioRpcError | None = None
        try:
            while (data := await self._stream.read()) is not aio.EOF:
                self._deliver(pb.ExchangeResponse.FromString(data))
        except aio.AioRpcError as error:
            end = await settled(self._stream, ends[0] if ends else error)
        finally:
            self.open = False
            self._lose(end or (ends[0] if ends else None))
            self._stream.cancel()

    def _deliver(self, message: Any) -> None:
        for reply in message.replies:
            found = self._waiting.pop(reply.id, None)
            if found is not None and not found.done():
                found.set_result(reply)
        if message.taken:
            self._hear(message.taken)
        if message.closing and self.open:
            self.open = False
            # Beside the reading: the other end may take nothing until its replies are read.
            self._leaving = asyncio.create_task(self._leave(), context=Context())

    async def _leave(self) -> None:
        """Half-closes, once all is sent."""
        await self._outbox.drained()
        with suppress(asyncio.InvalidStateError, aio.AioRpcError):
            await self._stream.done_writing()

    def _lose(self, end: aio.AioRpcError | None) -> None:
        """Nothing that still waits will be answered."""
        self._outbox.shut()
        self._hear(self._asked)
        plain = end is not None and end.code() is StatusCode.UNIMPLEMENTED
        why = f"{end.code().name}: {end.details()}" if end is not None else "cancelled"
        for found in self._waiting.values():
            if not found.done():
                found.set_exception(NotTaken() if plain else _lost(f"the stream ended: {why}"))
        self._waiting.clear()


def _item(id: int, path: str, body: bytes, timeout: float | None, metadata: Metadata) -> bytes:
    """A field of ExchangeRequest."""
    told = [part for pair in metadata for part in pair]
    item = pb.EnvelopeItem(id=id, method=path, request=body, metadata=told)
    if timeout is not None:
        item.timeout_us = int(timeout * 1e6)
    return framed(ITEMS, item.SerializeToString())


def _late(found: "asyncio.Future[pb.EnvelopeReply]") -> None:
    if not found.done():
        found.set_exception(_rpc_error(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


def _lost(why: str) -> aio.AioRpcError:
    return _rpc_error(StatusCode.UNAVAILABLE, why)


def _rpc_error(code: StatusCode, details: str) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details)


def _error(reply: Any) -> Exception:
    """What the call by itself would raise."""
    trailing = aio.Metadata(*pairs(reply.trailing_metadata))
    if reply.code == Code.PERMISSION_DENIED and reason_of(trailing.get(DETAILS_KEY)) == NOT_LISTED:
        return NotTaken()
    error: Exception = aio.AioRpcError(grpc_code(reply.code), aio.Metadata(), trailing, reply.message)
    return error


def pairs(field: Any) -> tuple[tuple[str, Any], ...]:
    """Metadata as grpc.aio has it: binary under keys that say so."""
    return tuple((one.key, one.value if one.key.endswith("-bin") else one.value.decode()) for one in field)
