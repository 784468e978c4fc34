"""Many requests on one stream: answers in order, work that overlaps, and a bound on it. Knows no model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.context import current, enter
from services.runtime.errors import ServiceError
from services.runtime.overlap import overlapped

log = logging.getLogger("maas.call")

# Metadata key: with "true", an error ends the stream with its status instead of travelling as a message.
STRICT = "triton_grpc_error"
# Parameter of a reply: nothing more comes for its request.
FINAL = "triton_final_response"
# Requests of one stream that overlap; their bytes and rows at work beyond which no further one is read.
WINDOW, MOST_BYTES, MOST_ROWS = 64, 32 * 1024 * 1024, 384
# Parts that a stream's load is counted in.
_WHOLE = 1 << 20

Answer = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelStreamInferResponse]]


def is_strict() -> bool:
    """Whether the caller of this stream wants errors as its status."""
    return current().metadata.get(STRICT) == "true"


async def answered(
    requests: AsyncIterator[pb.ModelInferRequest], answer: Answer
) -> AsyncIterator[pb.ModelStreamInferResponse]:
    """One reply a request, in order. An error is its request's reply or, under STRICT, raised in its place."""
    load, strict = _Load(), is_strict()

    async def one(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        # What is told of the time counts from this request, not from the stream.
        enter(current().part())
        try:
            return await answer(request)
        except Exception as error:
            problem = _told(error)
            if strict:
                raise problem from error
            return _refused(request, problem)
        finally:
            load.drop(request)

    async with aclosing(overlapped(load.paced(requests), one, WINDOW)) as replies:  # type: ignore[type-var]
        async for reply in replies:
            yield reply


def final(reply: pb.ModelInferResponse) -> pb.ModelStreamInferResponse:
    """The reply as the only one of its request."""
    reply.parameters[FINAL].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=reply)


def _told(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        log.info("refused", extra={"method": current().method, "status": error.code.name, "reason": error.reason})
        return error
    log.error("failed", extra={"method": current().method}, exc_info=error)
    return ServiceError(f"internal error; quote request id {current().request_id} to the operators")


def _refused(request: pb.ModelInferRequest, error: ServiceError) -> pb.ModelStreamInferResponse:
    """An error as a message; the request's id tells whose it is."""
    whose = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    whose.parameters[FINAL].bool_param = True
    return pb.ModelStreamInferResponse(error_message=error.message, infer_response=whose)


class _Load:
    """How much of what one stream may have at work its requests take."""

    def __init__(self) -> None:
        self._parts = 0
        self._dropped = asyncio.Event()

    async def paced(self, requests: AsyncIterator[pb.ModelInferRequest]) -> AsyncIterator[pb.ModelInferRequest]:
        """The requests; the next is read when those at work leave room."""
        async for request in requests:
            self._parts += _parts(request)
            yield request
            while self._parts >= _WHOLE:
                self._dropped.clear()
                await self._dropped.wait()

    def drop(self, request: pb.ModelInferRequest) -> None:
        self._parts -= _parts(request)
        self._dropped.set()


def _parts(request: pb.ModelInferRequest) -> int:
    """Of bytes and rows (as told: nobody has checked them yet) what there is less room for."""
    rows: int = max(request.inputs[0].shape[:1], default=1) if request.inputs else 1
    return max(request.ByteSize() * _WHOLE // MOST_BYTES, rows * _WHOLE // MOST_ROWS)
