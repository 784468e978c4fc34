"""A session on a stream that is opened anew wherever it breaks. Knows no channel; what is owed is the ledger's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas_client import arrays
from maas_client.arrays import SeriesLike
from maas_client.errors import DeadlineExceeded, Internal, MaasError, SessionEnded, Unavailable, error_of
from maas_client.ledger import AHEAD, Ledger
from maas_client.patience import Patience, passes
from maas_client.results import StepOutput

CLOSE_S = 5.0


class Session:
    """Steps in, outputs out, in order. Used by one task at a time.

    `timeout_s` is what each output may take, breaks included. Leaving the `async with` ends the session; an
    exception, or `leave`, keeps it for whoever resumes `session_id` before it idles out.
    """

    def __init__(self, begin: Callable[[], tuple[Any, str]], ledger: Ledger, timeout_s: float) -> None:
        self._begin, self._ledger, self._timeout_s = begin, ledger, timeout_s
        self._patience = Patience()
        self._call: Any = None
        # What the server says next; asked for all the time, so that the end of a quiet session is known.
        self._reading: asyncio.Future[Any] | None = None
        self._broken = False
        self._request_id = ""

    @property
    def session_id(self) -> str:
        return self._ledger.session_id

    @property
    def last_step(self) -> int:
        """The newest step that has its output; of a resumed session what was computed before."""
        return self._ledger.last_step

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._open()
        except grpc.RpcError as error:
            raise self._told(error) from None
        except TimeoutError:
            self.leave()
            raise self._late() from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._call is not None:
            with suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
                await self._close()
        self.leave()

    def leave(self) -> None:
        """Lets go of the stream; the session stays."""
        if self._call is not None:
            self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
        self._call = self._reading = None

    async def step(self, series: SeriesLike) -> StepOutput:
        """One step's input, [values] or [steps, features] as the model wants it, and its output."""
        number = self._ledger.add(arrays.series(series))
        while (found := await self._next()).step < number:
            pass  # what was owed since an earlier step ran out of time
        return found

    async def steps(self, series: Iterable[SeriesLike]) -> AsyncIterator[StepOutput]:
        """Inputs that are there already, several under way at once."""
        for one in series:
            self._ledger.add(arrays.series(one))
            while self._ledger.owed >= AHEAD:
                yield await self._next()
        while self._ledger.owed:
            yield await self._next()

    async def _next(self) -> StepOutput:
        """The next output, however often the stream breaks before it. MaasError where it cannot go on."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while (found := await self._hear()) is None:
                    pass
        except TimeoutError:
            self.leave()
            raise self._late() from None
        except asyncio.CancelledError:
            self.leave()
            raise
        self._patience.renew()
        return found

    async def _hear(self) -> StepOutput | None:
        """None for what was heard before, and after a break."""
        try:
            if self._call is None:
                await self._open()
            for step in self._ledger.unsent():
                await self._write(pb.RunSessionRequest(step=step))
            return self._take(await self._read())
        except grpc.RpcError as error:
            await self._break(self._told(error))
        except MaasError as error:
            await self._break(error)
        return None

    async def _open(self) -> None:
        self._call, self._request_id = self._begin()
        self._broken = False
        await self._write(pb.RunSessionRequest(open=self._ledger.opening()))
        reply = await self._call.read()
        if reply is aio.EOF:
            raise Unavailable("the stream ended before the session was opened")
        self._ledger.welcome(reply.opened)
        self._reading = asyncio.ensure_future(self._call.read())

    async def _write(self, message: pb.RunSessionRequest) -> None:
        """Why it cannot be written is told to who reads."""
        try:
            await self._call.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            self._broken = True

    async def _read(self) -> Any:
        assert self._reading is not None
        reply = await self._reading
        self._reading = asyncio.ensure_future(self._call.read())
        return reply

    def _take(self, reply: Any) -> StepOutput | None:
        if reply is aio.EOF:
            raise Unavailable("the stream ended without saying why")
        if not reply.HasField("ended"):
            return self._ledger.take(reply.output)
        self._ledger.status(reply.ended.status)
        reason = sequence_pb2.SessionEnd.Name(reply.ended.reason).removeprefix("SESSION_END_")
        if reason == "DRAINING":
            raise Unavailable("the server is about to stop", request_id=self._request_id)
        ended = SessionEnded(f"session {self.session_id!r} is over", request_id=self._request_id)
        ended.reason = reason
        raise ended

    async def _break(self, error: MaasError) -> None:
        """Waits until the next try; raises what no other try will mend."""
        self.leave()
        if not passes(error):
            self._ledger.begin_anew(error)
        await asyncio.sleep(self._patience.pause_s(error))

    async def _close(self) -> None:
        async with asyncio.timeout(CLOSE_S):
            await self._write(pb.RunSessionRequest(close=True))
            while await self._read() is not aio.EOF:
                pass

    def _told(self, error: grpc.RpcError) -> MaasError:
        """After a write that failed grpc.aio has forgotten why, and says INTERNAL."""
        found = error_of(error, self._request_id)
        return Unavailable("the stream broke") if self._broken and isinstance(found, Internal) else found

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no output within {self._timeout_s:g} s", request_id=self._request_id)
