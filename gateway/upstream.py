"""One call to a service: a replica is chosen, deadline, request id, trace and cancellation go along.

Bytes in, bytes out, through the service's gate. UNAVAILABLE is tried again on other healthy replicas while the
budget lasts, never after a first reply, never where sending twice would be two steps, and not where the service
forbids it (gRFC A6).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode, aio

from gateway.affinity import Key
from gateway.backends import Backend, Replica
from gateway.ending import end_of, settled
from gateway.envelope import NotTaken, pairs
from gateway.hedge import tried_at
from gateway.leaving import leave, messages_of, reply_of
from gateway.relay import FAULTS, Metadata, blames, carried, forbids_retries, relay, shed
from gateway.traced import asking, sent_again, told
from services.runtime.context import current
from services.runtime.errors import ServiceError
from services.runtime.tracing.span import Span

MOST_TRIES = 3

Announce = Callable[[Metadata], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A unary answer and the metadata that travels on."""

    body: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


async def call(backend: Backend, path: str, body: bytes, once: bool = False, key: Key | None = None) -> Reply:
    """A unary call, sent `once` only if asked: UNAVAILABLE does not tell whether the work was done.
    It goes where `key` leads, and a further try to the next in the key's order.

    Raises the service's own error, or Unavailable naming the service.
    """
    tried: list[Replica] = []
    await backend.ready()
    with backend.attempts.whole(path), await backend.gate.enter(path, len(body), current()) as inside:
        backend.budget.earn()
        while True:
            replica = backend.pick(tried, key)
            tried.append(replica)
            try:
                return await tried_at(backend, replica, tried, inside, lambda one: _one(backend, one, path, body))
            except aio.AioRpcError as error:
                if once or not _again(error, backend, tried):
                    raise relay(error, backend.name, replica.address) from error
                sent_again("retry", replica.address)


async def server_stream(
    backend: Backend, path: str, body: bytes, announce: Announce, key: Key | None = None
) -> AsyncGenerator[bytes, None]:
    """A server-streaming call; `announce` gets the initial metadata with the first message."""
    tried: list[Replica] = []
    await backend.ready()
    with backend.attempts.whole(path), await backend.gate.enter(path, len(body), current()):
        backend.budget.earn()
        while True:
            replica = backend.pick(tried, key)
            tried.append(replica)
            begun = False
            try:
                with (
                    replica.carrying() as channel,
                    backend.attempts.trying(path, len(body)) as attempt,
                    asking(path, replica.address) as span,
                ):
                    stream = channel.unary_stream(path)(body, **_along(span))
                    async with aclosing(_messages(stream, aiter(stream), announce, span)) as messages:
                        async for message in messages:
                            begun = True
                            attempt.received += len(message)
                            yield message
                replica.standing.good()
                return
            except aio.AioRpcError as error:
                _judge(replica, error, begun)
                if begun or not _again(error, backend, tried):
                    raise relay(error, backend.name, replica.address) from error
                sent_again("retry", replica.address)


async def bidi_stream(
    backend: Backend,
    path: str,
    requests: AsyncIterator[bytes],
    announce: Announce,
    more: Metadata = (),
    key: Key | None = None,
) -> AsyncGenerator[bytes, None]:
    """A bidi call, on one replica only: what was sent cannot be taken back. `more` metadata goes along."""
    await backend.ready()
    with backend.attempts.whole(path), await backend.gate.enter(path, 0, current()):
        replica, begun = backend.pick(key=key), False
        try:
            with (
                replica.carrying() as channel,
                backend.attempts.trying(path) as attempt,
                asking(path, replica.address) as span,
            ):
                stream = channel.stream_stream(path)(attempt.counting(requests), **_along(span, more))
                async with aclosing(_messages(stream, messages_of(stream), announce, span)) as messages:
                    async for message in messages:
                        begun = True
                        attempt.received += len(message)
                        yield message
            replica.standing.good()
        except aio.AioRpcError as error:
            _judge(replica, error, begun)
            raise relay(error, backend.name, replica.address) from error


async def call_each(backend: Backend, path: str, body: bytes) -> list[bytes]:
    """What each healthy replica says that answers. Raises Unavailable, or why the first does not if none does."""

    async def one(replica: Replica) -> bytes | ServiceError:
        try:
            return (await _one(backend, replica, path, body)).body
        except aio.AioRpcError as error:
            return relay(error, backend.name, replica.address)

    answers = await asyncio.gather(*(one(replica) for replica in backend.healthy or [backend.pick()]))
    found = [answer for answer in answers if isinstance(answer, bytes)]
    if not found:
        raise next(answer for answer in answers if isinstance(answer, ServiceError))
    return found


async def _one(backend: Backend, replica: Replica, path: str, body: bytes) -> Reply:
    with (
        replica.carrying() as channel,
        backend.attempts.trying(path, len(body)) as attempt,
        asking(path, replica.address) as span,
    ):
        try:
            reply = await _sent(replica, channel, path, body, span)
        except aio.AioRpcError as error:
            _judge(replica, error)
            raise
        attempt.received = len(reply.body)
        replica.standing.good()
        return reply


async def _sent(replica: Replica, channel: aio.Channel, path: str, body: bytes, span: Span | None) -> Reply:
    """Together with others that wait, where both ends can; else by itself."""
    envelope = replica.envelope
    if envelope is not None and envelope.takes(path, body):
        with suppress(NotTaken):
            reply = await envelope.call(path, body, **_along(span))
            told(span, "came in an envelope")
            initial, trailing = carried(pairs(reply.initial_metadata)), carried(pairs(reply.trailing_metadata))
            return Reply(reply.reply, initial, trailing)
    pending = channel.unary_unary(path)(body, **_along(span))
    reply = await reply_of(pending)
    return Reply(reply, carried(await pending.initial_metadata()), carried(await pending.trailing_metadata()))


async def _messages(
    stream: Any, messages: AsyncIterator[bytes], announce: Announce, span: Span | None
) -> AsyncGenerator[bytes, None]:
    """The messages of a stream; leaving early cancels it at the service. Raises the status it ended with."""
    ends: list[aio.AioRpcError] = []
    stream.add_done_callback(lambda _: ends.append(end_of(stream)))
    try:
        announced = False
        async for message in messages:
            # With the first message, so that a try that failed has said nothing yet.
            if not announced:
                told(span, "first message")
                await announce(carried(await stream.initial_metadata()))
                announced = True
            yield message
    except aio.AioRpcError as error:
        end = await settled(stream, ends[0] if ends else error)
        # A service may end well with more still being sent: then it was the write that failed, not the call.
        if end.code() is not StatusCode.OK:
            raise end from None
    else:
        end = ends[0] if ends else end_of(stream)
    finally:
        leave(stream)
    current().trailing.extend(carried(end.trailing_metadata()))


def _along(span: Span | None, more: Metadata = ()) -> dict[str, Any]:
    """What every call takes with it: the time its caller still has, request id and trace context."""
    context = current()
    place = span.span_id if span is not None else ""
    return {"timeout": context.remaining_s(), "metadata": (*context.outgoing(place), *more)}


def _judge(replica: Replica, error: aio.AioRpcError, begun: bool = False) -> None:
    """`begun`: it answered in part, so that a deadline that passed meanwhile is not its fault."""
    replica.failures += error.code() in FAULTS
    asked_s = shed(error)
    if asked_s is not None:
        replica.sheds += 1
        replica.standing.ease(asked_s)
    elif blames(error) and not (begun and error.code() is StatusCode.DEADLINE_EXCEEDED):
        replica.standing.fault()
    else:
        replica.standing.good()


def _again(error: aio.AioRpcError, backend: Backend, tried: list[Replica]) -> bool:
    """Whether to try another one; then the budget paid for it."""
    wanted = error.code() is StatusCode.UNAVAILABLE and not forbids_retries(error)
    return wanted and len(tried) < MOST_TRIES and backend.another(tried) and backend.budget.spend()
