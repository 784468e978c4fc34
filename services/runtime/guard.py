"""The one wrapper around every handler: context, admission, validation, errors, metrics, request id.

Handlers are wrapped once, at registration, so a call pays for no interceptor chain.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from services.runtime import bodies
from services.runtime import context as calls
from services.runtime.door import Door, authorise
from services.runtime.endings import abort, audited, internal, number
from services.runtime.errors import DeadlinePassed, ServiceError, Unimplemented
from services.runtime.status import grpc_code
from services.runtime.telemetry.orca import ASKED, FORM, TRAILER
from services.runtime.toll import Toll
from services.runtime.tracing.tracer import served
from services.runtime.unread import Unread, malformed
from services.runtime.validate import validate

log = logging.getLogger("maas.call")

# The place of a call that takes none.
FREE = nullcontext()

Body = Callable[[], Awaitable[Any]]
Reader = Callable[[bytes], Any]
Writer = Callable[[Any], bytes]


def guarded(door: Door, method: str, handler: grpc.RpcMethodHandler, admitted: bool) -> grpc.RpcMethodHandler:
    """The same handler behind the door; `admitted` = counts against the admission limit.

    Bytes in, bytes out: messages are parsed and written behind the door, which sees their sizes.
    """
    guard = _Guard(door, method, admitted, handler.request_deserializer, handler.response_serializer)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(guard.streaming(handler.stream_stream, guard.checked_stream))
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(guard.unary(handler.stream_unary, guard.checked_stream))
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(guard.streaming(handler.unary_stream, guard.checked))
    return grpc.unary_unary_rpc_method_handler(guard.unary(handler.unary_unary, guard.checked))


class _Guard:
    """Runs the body of one method's calls so that each ends exactly once with a proper status."""

    def __init__(self, door: Door, method: str, admitted: bool, read: Reader | None, write: Writer | None) -> None:
        self._door, self._method, self._admitted = door, method, admitted
        self._read, self._write = read or _as_it_is, write or _as_it_is
        self._calls = door.metrics.of(method)

    def unary(self, behaviour: Callable[..., Awaitable[Any]], checked: Callable[[Any], Any]) -> Callable[..., Any]:
        async def handle(request: Any, context: aio.ServicerContext) -> Any:
            return await self._run(context, lambda: behaviour(checked(request), context))

        return handle

    def streaming(
        self, behaviour: Callable[..., AsyncIterator[Any]], checked: Callable[[Any], Any]
    ) -> Callable[..., Any]:
        async def handle(request: Any, context: aio.ServicerContext) -> None:
            async def pump() -> None:
                call = calls.current()
                # aclosing: a caller that leaves closes the handler's generator at once, not when it is collected.
                async with aclosing(behaviour(checked(request), context)) as replies:  # type: ignore[type-var]
                    async for reply in replies:
                        if call.bill is not None:
                            await call.bill.add(reply)
                        await context.write(self._written(call, reply))

            await self._run(context, pump)

        return handle

    async def checked_stream(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Each message checked; a caller who keeps a stream open and sends nothing loses it, and its place."""
        # The handler may enter another context with a message.
        idle_s, messages, call = self._door.stream_idle_s, aiter(requests), calls.current()
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    message = await anext(messages)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlinePassed(f"no message on the stream for {idle_s:g} s", reason="STREAM_IDLE") from None
            yield self._checked(call, message)

    def checked(self, data: bytes) -> Any:
        """The request, logged if that is switched on; raises InvalidInput for one that breaks its limits."""
        return self._checked(calls.current(), data)

    def _checked(self, call: calls.RequestContext, data: bytes) -> Any:
        call.received += len(data)
        request, redactor = self._parsed(data), self._door.body_redactor
        if redactor is not None:
            seen = request.message() if isinstance(request, Unread) else request
            log.info("request", extra={"method": self._method, "body": bodies.told(seen, redactor)})
        if not isinstance(request, bytes | Unread):
            validate(request)
        authorise(self._method, request)
        return request

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._read(data)
        except DecodeError:
            raise malformed(self._method) from None

    def _written(self, call: calls.RequestContext, reply: Any) -> bytes:
        data = self._write(reply)
        call.sent += len(data)
        return data

    async def _run(self, context: aio.ServicerContext, body: Body) -> Any:
        request = _context_of(self._method, context)
        calls.enter(request)
        if self._door.tracer is not None:
            self._door.tracer.begin(request)
        self._calls.begin()
        status, refusal = "OK", None
        try:
            request.caller = self._door.doorkeeper.identify(request.metadata, context.auth_context)
            request.rights = self._door.doorkeeper.rights(request.caller)
            request.rights.check_method(self._method, request.peer)
            place = self._door.admission.admit(request.tenant) if self._admitted else FREE
            with place:
                if self._door.toll is not None:
                    await self._enter(self._door.toll, request)
                reply = await body()
            if reply is not None:
                if request.bill is not None:
                    await request.bill.add(reply)
                reply = self._written(request, reply)
            if request.initial and not self._door.joins:
                await context.send_initial_metadata(request.initial)
            if request.metadata.get(ASKED, "").lower() == FORM:
                self._tell_load(request)
            context.set_trailing_metadata((*request.trailing, (calls.REQUEST_ID, request.request_id)))
            return reply
        except ServiceError as error:
            status, refusal = error.code.name, error
            await abort(context, request, error)
        except aio.AbortError:
            # Only the servicers of others end their calls so.
            status = grpc_code(number(context.code())).name
            raise
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except aio.InternalError as error:
            # A write that failed because the caller left before its cancel reached this task.
            status = "CANCELLED"
            raise asyncio.CancelledError from error
        except NotImplementedError:
            status = "UNIMPLEMENTED"
            await abort(context, request, Unimplemented(f"{self._method} is declared and not served yet"))
        except Exception:
            status = "INTERNAL"
            log.exception("failed", extra={"method": self._method})
            await abort(context, request, internal(request.request_id))
        finally:
            if request.bill is not None:
                request.bill.close()
            told = request.span.trace_id if request.span is not None else ""
            self._door.access.ended(request, status, refusal)
            self._calls.end(status, time.monotonic() - request.started, request.sent, request.received, told)
            if request.span is not None:
                served(request.span, status)
            audited(request, status)

    def _tell_load(self, request: calls.RequestContext) -> None:
        """Ours, in place of that of a service behind us."""
        others = [pair for pair in request.trailing if pair[0] != TRAILER]
        request.trailing = [*others, (TRAILER, self._door.load.data())]

    async def _enter(self, toll: Toll, request: calls.RequestContext) -> None:
        request.bill = toll.bill(request)
        if request.bill is not None:
            await request.bill.admit()


def _context_of(method: str, context: aio.ServicerContext) -> calls.RequestContext:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    remaining = context.time_remaining()
    return calls.RequestContext(
        method=method,
        request_id=calls.request_id_from(metadata),
        deadline=None if remaining is None else time.monotonic() + remaining,
        metadata=metadata,
        peer=context.peer(),
    )


def _as_it_is(data: Any) -> Any:
    return data
