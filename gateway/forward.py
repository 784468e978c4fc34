"""The services' own contracts at the gateway: handlers made from their descriptors. Knows no message by name."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from grpc import aio

from gateway import homes, upstream
from gateway.answer import Answer
from gateway.backends import Backend
from gateway.cache_stats import BYPASS, REMEMBERED
from gateway.methods import SERVICES, Method, methods_of
from gateway.pipeline import Pipeline
from gateway.recall import wire
from gateway.relay import Metadata
from gateway.streams.streams import STREAM, Announce, Streams
from services.runtime.context import current
from services.runtime.envelope.methods import METHODS
from services.runtime.errors import ServiceError
from services.runtime.unread import Unread

OUTCOME, AGE = "x-maas-cache", "x-maas-cache-age-s"


class Forwarder:
    """Makes the handlers of one service. Bytes pass unread except where an answer may be remembered."""

    def __init__(self, pipeline: Pipeline, streams: Streams, backends: Mapping[str, Backend]) -> None:
        self._pipeline, self._streams, self._backends = pipeline, streams, backends

    def add(self, area: str) -> Callable[[Any, Any], None]:
        """A stand-in for the generated `add_XServicer_to_server`."""
        service = SERVICES[area]

        def add_to_server(forwarder: Forwarder, server: Any) -> None:
            handlers = {method.name: forwarder.handler(method) for method in methods_of(area, service)}
            server.add_registered_method_handlers(service.full_name, handlers)

        return add_to_server

    def handler(self, method: Method) -> grpc.RpcMethodHandler:
        """Serves one method. A message that does not parse is refused here or, if unread here, by the service."""
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._bidi(method))
        if method == STREAM:
            return grpc.unary_stream_rpc_method_handler(self._replaying(), unread(method))
        if method.client_streaming or method.server_streaming:
            # At start, not in a call: whoever adds such a method to a contract must write its way here.
            raise NotImplementedError(f"{method.path}: no contract of ours has this shape")
        if method.remembers:
            return grpc.unary_unary_rpc_method_handler(self._remembering(method), unread(method))
        return grpc.unary_unary_rpc_method_handler(self._passing(method))

    def _remembering(self, method: Method) -> Callable[..., Any]:
        short = method.path in METHODS

        async def handle(request: Unread, context: aio.ServicerContext) -> bytes:
            if short and self._pipeline.unread(request.data):
                return tell(await self._pipeline.forward(method.area, method.path, request.data))
            asked = wire(method.path, current().tenant, request.data)
            known = self._pipeline.recall(asked) or await self._pipeline.recall_far(asked)
            return tell(known or await self._pipeline.answer(method, request.message(), asked))

        return handle

    def _passing(self, method: Method) -> Callable[..., Any]:
        async def handle(request: bytes, context: aio.ServicerContext) -> bytes:
            body, key = homes.of_step(request) if method.stateful else (request, None)
            answer = await self._pipeline.forward(method.area, method.path, body, once=method.stateful, key=key)
            return tell(answer)

        return handle

    def _replaying(self) -> Callable[..., Any]:
        async def handle(request: Unread, context: aio.ServicerContext) -> AsyncIterator[bytes]:
            asked: Any = request.message()
            async with aclosing(self._streams.messages(asked, _teller(context))) as replies:
                async for reply in replies:
                    yield reply

        return handle

    def _bidi(self, method: Method) -> Callable[..., Any]:
        async def handle(requests: AsyncIterator[bytes], context: aio.ServicerContext) -> AsyncIterator[bytes]:
            backend = self._backends[method.area]
            held = method.name == "RunSession"
            requests, key = await homes.of_stream(requests) if held else (requests, None)
            taken = _Taken(requests)
            replies = upstream.bidi_stream(backend, method.path, taken.bodies(), _announcer(context), key=key)
            async with aclosing(taken.answered(replies)) as answers:
                async for reply in answers:
                    yield reply

        return handle


class _Taken:
    """A caller's messages on their way to a service, up to one that is refused here: for the service they end.

    Raised to the transport, a refusal would cancel the stream, and its caller never hear of it.
    """

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self._requests = requests
        self._refusal: ServiceError | None = None

    async def bodies(self) -> AsyncIterator[bytes]:
        try:
            async for body in self._requests:
                yield body
        except ServiceError as error:
            self._refusal = error

    async def answered(self, replies: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The answers to what was taken. Raises the refusal, if there was one, not how the stream ended."""
        try:
            async with aclosing(replies):
                async for reply in replies:
                    yield reply
        except ServiceError:
            if self._refusal is None:
                raise
        if self._refusal is not None:
            raise self._refusal


def unread(method: Method) -> Callable[[bytes], Unread]:
    """Stands in for a deserializer: a request stays as it came and is parsed where it is read."""
    return partial(Unread, method.path, method.request)


def tell(answer: Answer) -> bytes:
    """Leaves the cache's outcome as the call's initial metadata; returns the reply's bytes."""
    call = current()
    call.initial += ((OUTCOME, answer.outcome), (AGE, str(int(answer.age_s))), *answer.initial)
    call.trailing += answer.trailing
    call.remembered = answer.outcome in REMEMBERED
    return answer.reply


def _teller(context: aio.ServicerContext) -> Announce:
    async def tell_first(outcome: str, age_s: float, metadata: Metadata) -> None:
        current().remembered = outcome in REMEMBERED
        await context.send_initial_metadata(((OUTCOME, outcome), (AGE, str(int(age_s))), *metadata))

    return tell_first


def _announcer(context: aio.ServicerContext) -> upstream.Announce:
    async def announce(metadata: Metadata) -> None:
        await context.send_initial_metadata(((OUTCOME, BYPASS), *metadata))

    return announce
