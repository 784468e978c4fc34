"""The one wrapper around every handler: context, admission, validation, errors, metrics, request id.

Handlers are wrapped once, at registration, so a call pays for no interceptor chain.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from services.runtime import bodies
from services.runtime import context as calls
from services.runtime.admission import Admission
from services.runtime.errors import Code, DeadlinePassed, ServiceError, Unimplemented
from services.runtime.identity.doorkeeper import Doorkeeper
from services.runtime.identity.policy import ADMINISTRATIVE
from services.runtime.metrics import Metrics
from services.runtime.named_model import model_in
from services.runtime.redaction import Redactor
from services.runtime.status import grpc_code, trailers
from services.runtime.telemetry.access import AccessLog
from services.runtime.telemetry.orca import ASKED, FORM, TRAILER, LoadReport
from services.runtime.toll import Toll
from services.runtime.tracing.tracer import Tracer, served
from services.runtime.unread import Unread, malformed
from services.runtime.validate import validate

log = logging.getLogger("maas.call")
audit = logging.getLogger("maas.audit")
# Kept in the audit log whatever the method.
REFUSED = frozenset({Code.PERMISSION_DENIED.name, Code.UNAUTHENTICATED.name})

# The place of a call that takes none.
FREE = nullcontext()

Body = Callable[[], Awaitable[Any]]
Reader = Callable[[bytes], Any]
Writer = Callable[[Any], bytes]


@dataclass(slots=True)
class Door:
    """What every call passes. `wrap` turns a plain handler into a guarded one."""

    admission: Admission
    metrics: Metrics
    stream_idle_s: float
    doorkeeper: Doorkeeper
    access: AccessLog
    load: LoadReport
    # The texts of requests are logged through it; None = they are not logged at all.
    body_redactor: Redactor | None = None
    # Who counts calls; None = nobody.
    toll: Toll | None = None
    # Whether a unary reply takes its initial metadata along by itself: see ahead.py.
    joins: bool = False
    # Who begins the spans of calls; None = no call is traced.
    tracer: Tracer | None = None

    def wrap(self, method: str, handler: grpc.RpcMethodHandler, admitted: bool) -> grpc.RpcMethodHandler:
        """The same handler behind the door; `admitted` = counts against the admission limit.

        Bytes in, bytes out: messages are parsed and written behind the door, which sees their sizes.
        """
        guard = _Guard(self, method, admitted, handler.request_deserializer, handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                guard.streaming(handler.stream_stream, guard.checked_stream)
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(guard.unary(handler.stream_unary, guard.checked_stream))
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(guard.streaming(handler.unary_stream, guard.checked))
        return grpc.unary_unary_rpc_method_handler(guard.unary(handler.unary_unary, guard.checked))


class Registrar:
    """Stands in for the server in `add_XServicer_to_server`: wraps each handler, then registers it for real."""

    def __init__(self, server: aio.Server, door: Door, admitted: bool = True, free: Collection[str] = ()) -> None:
        """`free`: methods that the admission limit does not hold up, though it does the others."""
        self._server, self._door, self._admitted, self._free = server, door, admitted, free
        self.services: list[str] = []
        # The wrapped handlers by path.
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Generated code calls both; the wrapped ones of the other method are what counts."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, grpc.RpcMethodHandler]) -> None:
        wrapped = {
            name: self._door.wrap(f"/{service}/{name}", handler, self._admitted and name not in self._free)
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self.handlers |= {f"/{service}/{name}": handler for name, handler in wrapped.items()}
        self.services.append(service)


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
            request.rights.check_method(self._method, context.peer())
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
            await _abort(context, request, error)
        except aio.AbortError:
            # Only the servicers of others end their calls so.
            status = grpc_code(_number(context.code())).name
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
            await _abort(context, request, Unimplemented(f"{self._method} is declared and not served yet"))
        except Exception:
            status = "INTERNAL"
            log.exception("failed", extra={"method": self._method})
            await _abort(context, request, _internal(request.request_id))
        finally:
            if request.bill is not None:
                request.bill.close()
            told = request.span.trace_id if request.span is not None else ""
            self._door.access.ended(request, status, refusal)
            self._calls.end(status, time.monotonic() - request.started, request.sent, request.received, told)
            if request.span is not None:
                served(request.span, status)
            if self._method in ADMINISTRATIVE or status in REFUSED:
                _audit(request, status, context.peer())

    def _tell_load(self, request: calls.RequestContext) -> None:
        """Ours, in place of that of a service behind us."""
        others = [pair for pair in request.trailing if pair[0] != TRAILER]
        request.trailing = [*others, (TRAILER, self._door.load.data())]

    async def _enter(self, toll: Toll, request: calls.RequestContext) -> None:
        request.bill = toll.bill(request)
        if request.bill is not None:
            await request.bill.admit()


def authorise(method: str, request: Any) -> None:
    """Raises Denied unless the caller of now may ask the model that `request` names by `method`."""
    rights = calls.current().rights
    if rights.looks_at_models(method) and (model := model_in(method, request)) is not None:
        rights.check_model(method, model)


def _audit(request: calls.RequestContext, status: str, peer: str) -> None:
    """Who wanted what: of calls that change what is served, and of those that were turned away."""
    who = {"caller": request.caller.name, "tenant": request.caller.tenant, "roles": sorted(request.caller.roles)}
    audit.info(status, extra={"method": request.method, "peer": peer, "vouched": request.caller.vouched, **who})


def _internal(request_id: str) -> ServiceError:
    return ServiceError(
        f"internal error; quote request id {request_id} to the operators", metadata={"request_id": request_id}
    )


async def _abort(context: aio.ServicerContext, request: calls.RequestContext, error: ServiceError) -> None:
    metadata = (*trailers(error), *request.trailing, (calls.REQUEST_ID, request.request_id))
    await context.abort(grpc_code(error.code), error.message, metadata)


def _context_of(method: str, context: aio.ServicerContext) -> calls.RequestContext:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    remaining = context.time_remaining()
    return calls.RequestContext(
        method=method,
        request_id=calls.request_id_from(metadata),
        deadline=None if remaining is None else time.monotonic() + remaining,
        metadata=metadata,
    )


def _number(code: Any) -> int:
    """As grpc.aio has it, or as our own transport does."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)


def _as_it_is(data: Any) -> Any:
    return data
