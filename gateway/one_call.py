"""One typed call of many: its reply or its status, within its own time. It takes the ordinary path."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.answer import Answer
from gateway.convert import failed, replied, request_of
from gateway.methods import Method
from gateway.pipeline import Pipeline
from gateway.traced import inside
from maas.gateway.v1 import gateway_pb2
from services.runtime.context import RequestContext, current, enter
from services.runtime.door import authorise
from services.runtime.endings import audited
from services.runtime.errors import DeadlinePassed, ServiceError
from services.runtime.validate import validate

log = logging.getLogger("maas.calls")


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one call; `fatal` is set if it ends the whole under fail_fast."""

    index: int
    result: gateway_pb2.CallResult
    fatal: ServiceError | None = None


class Caller:
    """Makes one call of a fan-out or of a pipeline. To be run in a task of its own."""

    def __init__(self, pipeline: Pipeline, methods: Mapping[str, Method]) -> None:
        """`methods`: by the full name of their request type."""
        self._pipeline, self._methods = pipeline, methods

    async def finish(self, index: int, call: gateway_pb2.Call) -> Finished:
        """The end of `call`, whatever it is; only a cancel is raised."""
        started = time.monotonic()
        try:
            return Finished(index, await self._reply(call, started))
        except ServiceError as error:
            problem = error
        except Exception:
            log.exception("one call of many failed", extra={"index": index})
            problem = ServiceError(f"internal error; quote request id {current().request_id} to the operators")
        return ended(index, call, problem, started)

    async def _reply(self, call: gateway_pb2.Call, started: float) -> gateway_pb2.CallResult:
        kind, request = request_of(call)
        # Deferred by the door, so that a malformed call costs no other its answer.
        validate(request)
        method = self._method(request)
        try:
            answer = await self._answer(method, request, call)
        except ServiceError as error:
            # Of the RPC, which may end well, the door notes nothing.
            audited(replace(current(), method=method.path), error.code.name)
            raise
        return replied(call.id, kind, answer, started)

    async def _answer(self, method: Method, request: Any, call: gateway_pb2.Call) -> Answer:
        current().rights.check_method(method.path, "")
        authorise(method.path, request)
        context = _context_of(call, method.path)
        # This task has a context of its own: nobody else sees the shorter deadline.
        enter(context)
        try:
            with inside(context, call.id):
                async with asyncio.timeout(context.remaining_s()):
                    return await self._pipeline.answer(method, request)
        except TimeoutError:
            raise DeadlinePassed(f"call {call.id!r} did not finish in its time") from None

    def _method(self, request: Any) -> Method:
        return self._methods[request.DESCRIPTOR.full_name]


def ended(index: int, call: gateway_pb2.Call, problem: ServiceError, started: float) -> Finished:
    """The end of a call that has no reply."""
    return Finished(index, failed(call.id, problem, started), None if call.best_effort else problem)


def _context_of(call: gateway_pb2.Call, path: str) -> RequestContext:
    """The caller's context with the call's own method and timeout, never longer than the caller waits."""
    inner = replace(current(), method=path, trailing=[])
    if not call.HasField("timeout_ms"):
        return inner
    own = time.monotonic() + call.timeout_ms / 1000
    return replace(inner, deadline=own if inner.deadline is None else min(own, inner.deadline))
