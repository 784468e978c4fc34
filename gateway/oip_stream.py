"""One stream of inferences over several services: each gets the requests for its models. Knows no tensors."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import ServiceError, Unavailable

CLOSE_WITHIN_S = 1.0

# The bodies of requests → the bodies of replies, one for each in order; raises ServiceError when it breaks.
Open = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes, None]]


class Lines:
    """The streams to services of one caller's stream, each opened when it is needed first."""

    def __init__(self, area_of: Callable[[str], str], open_to: Callable[[str], Open]) -> None:
        """`area_of`: the service of a model; raises ServiceError. `open_to`: how to reach a service."""
        self._area_of, self._open_to = area_of, open_to
        self._lines: dict[str, _Line] = {}

    async def ask(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        """The service's reply. Raises what ended the stream to it; the next request opens another."""
        area = self._area_of(request.model_name)
        line = self._lines.get(area)
        if line is None or line.over:
            line = self._lines[area] = _Line(self._open_to(area))
        # Nothing was awaited so far: requests of one model go out in the order in which they were begun.
        return await line.ask(request.SerializeToString())

    async def close(self) -> None:
        """Ends them; what is still owed is given up."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))


class _Line:
    """One stream to a service."""

    def __init__(self, open_: Open) -> None:
        self._bodies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._owed: deque[asyncio.Future[pb.ModelStreamInferResponse]] = deque()
        self._reader = asyncio.create_task(self._read(open_(self._sent())))

    @property
    def over(self) -> bool:
        return self._reader.done()

    async def ask(self, body: bytes) -> pb.ModelStreamInferResponse:
        owed: asyncio.Future[pb.ModelStreamInferResponse] = asyncio.get_running_loop().create_future()
        self._owed.append(owed)
        self._bodies.put_nowait(body)
        return await owed

    async def close(self) -> None:
        """Half-closes a stream that owes nothing and lets it end; cancels any other."""
        self._bodies.put_nowait(None)
        if not self._owed:
            await asyncio.wait({self._reader}, timeout=CLOSE_WITHIN_S)
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _sent(self) -> AsyncIterator[bytes]:
        while (body := await self._bodies.get()) is not None:
            yield body

    async def _read(self, replies: AsyncGenerator[bytes, None]) -> None:
        end: ServiceError = Unavailable("the service ended the stream; retry shortly", retry_after_s=1.0)
        try:
            async with aclosing(replies):
                async for reply in replies:
                    owed = self._owed.popleft()
                    # Whoever asked may have left; the reply is taken all the same, for those behind it.
                    if not owed.done():
                        owed.set_result(pb.ModelStreamInferResponse.FromString(reply))
        except ServiceError as error:
            end = error
        finally:
            for owed in self._owed:
                if not owed.done():
                    owed.set_exception(end)
