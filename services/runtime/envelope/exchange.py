"""Envelopes opened: each item goes to the handler that its call by itself would meet. Knows no service's work.

Admission, limits, errors, metrics and logs are the door's, as the handlers are those behind it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from maas.internal.v1 import envelope_service_pb2 as pb
from services.runtime.envelope.item import ItemContext, answered, failed, refused
from services.runtime.envelope.methods import EXCHANGE, METHODS, NOT_LISTED
from services.runtime.envelope.outbox import Outbox
from services.runtime.errors import Denied, InvalidInput, Overloaded, ServiceError, Unimplemented
from services.runtime.status import grpc_code, trailers
from services.runtime.unread import malformed
from services.runtime.validate import validate

MOST_INSIDE = 1024  # items of a stream, and replies that it does not take; then no more is read from it
LONGEST_S = 30 * 24 * 3600.0  # an event loop's clock need not hold more
FRAME_BYTES = 16 * 1024  # of a message, beside the reply in it
CLOSING = pb.ExchangeResponse(closing=True).SerializeToString()
# Under which they wait beside the replies, which wait under their items' ids.
CLOSING_KEY, TAKEN_KEY = -1, -2

Handlers = Mapping[str, grpc.RpcMethodHandler]

log = logging.getLogger("maas.envelope")


class Exchange:
    """Serves EnvelopeService over the `handlers` of a server, by path."""

    def __init__(self, handlers: Handlers, max_message_bytes: int, age_s: float = 0) -> None:
        """`age_s`: streams older than this are told to close, as connections are; 0 = none."""
        self._handlers, self._most_bytes, self._age_s = handlers, max_message_bytes - FRAME_BYTES, age_s
        self._links: set[_Link] = set()
        self._ended = False

    def add_to(self, server: aio.Server) -> None:
        """Not behind the door: an idle envelope may stay, and what is in it passes the door by itself."""
        _, service, name = EXCHANGE.split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))

    def end(self) -> None:
        """Asks every stream, also those that begin later, to close once its items ended."""
        self._ended = True
        for link in self._links:
            link.ask_to_close()

    async def _serve(self, messages: AsyncIterator[bytes], context: aio.ServicerContext) -> None:
        link = _Link(self._handlers, self._most_bytes, context)
        self._links.add(link)
        if self._ended:
            link.ask_to_close()
        loop = asyncio.get_running_loop()
        ageing = loop.call_later(self._age_s, link.ask_to_close) if self._age_s else None
        try:
            async for message in messages:
                link.take(message)
                await link.room()
            await link.ended()
        except ServiceError as error:
            await context.abort(grpc_code(error.code), error.message, trailers(error))
        finally:
            self._links.discard(link)
            if ageing is not None:
                ageing.cancel()
            await link.cancel()


class _Link:
    """One stream: the items inside and the replies that wait to be written."""

    def __init__(self, handlers: Handlers, most_bytes: int, context: aio.ServicerContext) -> None:
        self._handlers, self._most_bytes, self._context = handlers, most_bytes, context
        self._inside: dict[int, asyncio.Task[None]] = {}
        self._outbox = Outbox(context.write)
        self._loop = asyncio.get_running_loop()
        self._taken = 0

    def take(self, data: bytes) -> None:
        """Begins the items of a message and ends those that it cancels. Raises InvalidInput."""
        message = opened(data)
        for item in message.items:
            if item.id in self._inside:
                raise InvalidInput("items", f"id {item.id} is in use; count on", reason="ID_IN_USE")
            self._begin(item)
        for id in message.cancelled_ids:
            if id in self._inside:
                self._inside[id].cancel()
        if message.acknowledge:
            # Behind the items' first steps: replies that need no second one come along.
            self._taken += 1
            self._outbox.put(TAKEN_KEY, pb.ExchangeResponse(taken=self._taken).SerializeToString())

    async def room(self) -> None:
        """Returns once there may be more inside."""
        while len(self._inside) >= MOST_INSIDE:
            await asyncio.wait(self._inside.values(), return_when=asyncio.FIRST_COMPLETED)
        if len(self._outbox) >= MOST_INSIDE:
            await self._outbox.drained()

    async def ended(self) -> None:
        """Returns once every item ended and every reply is written."""
        while self._inside:
            await asyncio.wait(self._inside.values())
        await self._outbox.drained()

    async def cancel(self) -> None:
        """Ends all items: nobody waits for them."""
        tasks = list(self._inside.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask_to_close(self) -> None:
        self._outbox.put(CLOSING_KEY, CLOSING)

    def _begin(self, item: Any) -> None:
        timeout_s = min(item.timeout_us / 1e6, LONGEST_S) if item.HasField("timeout_us") else None
        context = ItemContext(self._context, item.metadata, timeout_s)
        task = self._inside[item.id] = self._loop.create_task(self._run(item, context))
        late = None if timeout_s is None else self._loop.call_later(timeout_s, task.cancel)

        def end(_: object) -> None:
            del self._inside[item.id]
            if late is not None:
                late.cancel()

        task.add_done_callback(end)

    async def _run(self, item: Any, context: ItemContext) -> None:
        try:
            handler = self._handler(item.method)
            body = await handler.unary_unary(item.request, context)
            self._check(body)
            told = answered(item.id, body, context)
        except aio.AbortError:
            told = failed(item.id, context)
        except ServiceError as error:
            told = refused(item.id, error)
        except Exception:
            # The door answers what a handler raises; this is what the door or the answer itself breaks on.
            log.exception("failed", extra={"method": item.method})
            told = refused(item.id, ServiceError("internal error"))
        self._outbox.put(item.id, told)

    def _handler(self, path: str) -> Any:
        handler = self._handlers.get(path)
        if handler is None:
            raise Unimplemented(f"{path!r} is not served here")
        if path not in METHODS:
            raise Denied(f"{path} does not travel in envelopes; send it by itself", reason=NOT_LISTED)
        return handler

    def _check(self, body: bytes) -> None:
        """A message that is too large would end the stream, and all that is on it."""
        if len(body) > self._most_bytes:
            raise Overloaded(
                f"Sent message larger than max ({len(body)} vs. {self._most_bytes})", reason="REPLY_TOO_LARGE"
            )


def opened(data: bytes) -> Any:
    """An ExchangeRequest within its limits. Raises InvalidInput."""
    try:
        message = pb.ExchangeRequest.FromString(data)
    except DecodeError:
        raise malformed(EXCHANGE) from None
    validate(message)
    return message
