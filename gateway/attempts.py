"""Calls to one service, whole and try by try, as gRFC A66 counts them at a client. Knows no Prometheus."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

from grpc import aio

from services.runtime.errors import ServiceError
from services.runtime.telemetry.calls import Calls


class Attempts:
    """By path. A whole call is what was asked of the service; its tries are what went over the wire."""

    def __init__(self) -> None:
        self.tries: defaultdict[str, Calls] = defaultdict(Calls)
        self.wholes: defaultdict[str, Calls] = defaultdict(Calls)

    def whole(self, path: str) -> "Attempt":
        return Attempt(self.wholes[path])

    def trying(self, path: str, sent: int = 0) -> "Attempt":
        """`sent`: bytes of the request."""
        return Attempt(self.tries[path], sent)


class Attempt:
    """Counts for the length of the block, and takes its status from how that ends."""

    __slots__ = ("_begun", "_calls", "received", "sent")

    def __init__(self, calls: Calls, sent: int = 0) -> None:
        self._calls, self.sent, self.received = calls, sent, 0
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        self._calls.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self._calls.end(_status(error), time.monotonic() - self._begun, self.sent, self.received)

    async def counting(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The same messages."""
        async for request in requests:
            self.sent += len(request)
            yield request


def _status(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    if isinstance(error, aio.AioRpcError):
        return str(error.code().name)
    if isinstance(error, ServiceError):
        return error.code.name
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"
