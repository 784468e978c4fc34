"""The call that an item stands for, as a handler sees it, and the reply it ends with. Knows no stream's order."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio

from maas.internal.v1 import envelope_service_pb2 as pb
from services.runtime.context import REQUEST_ID, current
from services.runtime.errors import ServiceError
from services.runtime.status import trailers
from services.runtime.wire import framed

REPLIES = b"\x0a"  # field 1 of ExchangeResponse, which carries its length

Told = Iterable[tuple[str, str | bytes]]


class ItemContext:
    """To a unary handler what `aio.ServicerContext` is; `stream` is that of the envelope."""

    __slots__ = ("_deadline", "_metadata", "_stream", "failure", "initial", "trailing")

    def __init__(self, stream: aio.ServicerContext, metadata: Sequence[str], timeout_s: float | None) -> None:
        self._stream = stream
        self._metadata = tuple(zip(metadata[::2], metadata[1::2], strict=False))
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.initial: Told = ()
        self.trailing: Told = ()
        self.failure: tuple[int, str] = (0, "")

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    async def send_initial_metadata(self, initial_metadata: Told) -> None:
        self.initial = initial_metadata

    def set_trailing_metadata(self, trailing_metadata: Told) -> None:
        self.trailing = trailing_metadata

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Told = ()) -> NoReturn:
        self.set_code(code)
        self.set_details(details)
        self.trailing = trailing_metadata
        raise aio.AbortError

    def code(self) -> int:
        return self.failure[0]

    def set_code(self, code: grpc.StatusCode) -> None:
        self.failure = (code.value[0], self.failure[1])

    def set_details(self, details: str) -> None:
        self.failure = (self.failure[0], details)

    def peer(self) -> str:
        return str(self._stream.peer())

    def auth_context(self) -> Any:
        return self._stream.auth_context()


def answered(id: int, body: bytes, context: ItemContext) -> bytes:
    """The reply of an item whose handler returned: a field of ExchangeResponse. In the item's own task."""
    reply = pb.EnvelopeReply(id=id, reply=body)
    # Either may hold it: see ahead.py.
    _tell(reply.initial_metadata, current().initial or context.initial)
    _tell(reply.trailing_metadata, context.trailing)
    return framed(REPLIES, reply.SerializeToString())


def failed(id: int, context: ItemContext) -> bytes:
    """The reply of an item whose call was aborted."""
    code, message = context.failure
    reply = pb.EnvelopeReply(id=id, code=code, message=message)
    _tell(reply.trailing_metadata, context.trailing)
    return framed(REPLIES, reply.SerializeToString())


def refused(id: int, error: ServiceError) -> bytes:
    """The reply of an item that came to no handler."""
    reply = pb.EnvelopeReply(id=id, code=int(error.code), message=error.message)
    _tell(reply.trailing_metadata, trailers(error))
    return framed(REPLIES, reply.SerializeToString())


def _tell(field: Any, told: Told) -> None:
    for key, value in told:
        if key != REQUEST_ID:
            field.add(key=key, value=value.encode() if isinstance(value, str) else value)
