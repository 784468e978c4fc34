"""A way to an answer: which server is called with what, who else's CPU counts, what must come back. Times it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from time import process_time

import grpc
from grpc import aio

from services.runtime.channels import open_channel
from tests.bench import family
from tests.bench.load import Sample, measure
from tests.bench.servers import Server

Ask = Callable[[bytes], Awaitable[bytes]]
Point = tuple[str, str]
Timed = Callable[[], Awaitable[Sample]]
AGAIN = 2


@dataclass(frozen=True, slots=True)
class Way:
    """`make` gives the bytes of a call, `read` what they who asked wanted to know, which is to equal `right`.

    The first of `servers` is called; CPU of all of them counts, and the client's. reads: the client's work on each
    answer is measured too. units: rows in a call. streamed: calls are messages of one stream, answered in order.
    outcome: what the gateway must say of its cache. held: nothing of these servers runs but for this way.
    """

    servers: tuple[Server, ...]
    path: str
    make: Callable[[], Awaitable[bytes]]
    read: Callable[[bytes], object]
    right: object
    units: int = 1
    reads: bool = False
    streamed: bool = False
    outcome: str = ""
    held: bool = False

    async def works(self) -> bool:
        """Whether the server knows the method; everything but UNIMPLEMENTED is left to `measure`."""
        async with open_channel(self.servers[0].address, retry=False) as channel:
            try:
                await self._check(channel)
            except aio.AioRpcError as error:
                return error.code() is not grpc.StatusCode.UNIMPLEMENTED
        return True

    async def measure(self, in_flight: int, seconds: float) -> Sample:
        """Units a second with so many calls in flight. RuntimeError for a wrong answer, before or after.

        A connection that a server held for minutes cuts as it wakes is none of its speed: measured anew, twice.
        """
        for _ in range(AGAIN):
            with contextlib.suppress(aio.AioRpcError):
                return await self._measured(in_flight, seconds)
        try:
            return await self._measured(in_flight, seconds)
        except aio.AioRpcError as error:
            name = self.servers[0].program.name
            raise RuntimeError(f"{name} failed: {error.code().name}, {error.details()}") from None

    async def _measured(self, in_flight: int, seconds: float) -> Sample:
        with _awake(self.servers if self.held else ()):
            async with open_channel(self.servers[0].address, retry=False) as channel, self._asking(channel) as ask:
                await self._check(channel)
                call = self._reading(ask) if self.reads else self._calling(ask)
                found = await measure(call, in_flight, seconds, self._cpu_s, self.units)
                await self._check(channel)
        return found

    def _calling(self, ask: Ask) -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            await ask(await self.make())

        return call

    def _reading(self, ask: Ask) -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            self._judge(self.read(await ask(await self.make())))

        return call

    @asynccontextmanager
    async def _asking(self, channel: aio.Channel) -> AsyncIterator[Ask]:
        if not self.streamed:
            yield channel.unary_unary(self.path)
            return
        async with streaming(channel.stream_stream(self.path)()) as ask:
            yield ask

    async def _check(self, channel: aio.Channel) -> None:
        """One call by itself."""
        if self.streamed:
            async with streaming(channel.stream_stream(self.path)()) as ask:
                return self._judge(self.read(await ask(await self.make())))
        call = channel.unary_unary(self.path)(await self.make())
        self._judge(self.read(await call))
        told = dict(await call.initial_metadata()).get("x-maas-cache", "")
        if self.outcome and told != self.outcome:
            raise RuntimeError(
                f"{self.servers[0].program.name} answered {told!r} where {self.outcome!r} is measured"
            )
        return None

    def _judge(self, found: object) -> None:
        if found != self.right:
            raise RuntimeError(f"{self.servers[0].program.name} answered {found!r} where {self.right!r} is right")

    def _cpu_s(self) -> float:
        return family.cpu_s(one.process.pid for one in self.servers) + process_time()


@asynccontextmanager
async def streaming(call: aio.StreamStreamCall) -> AsyncIterator[Ask]:
    """Messages of one stream as calls. What ends the stream early fails all that wait."""
    waiting: deque[asyncio.Future[bytes]] = deque()
    turn = asyncio.Lock()

    async def ask(body: bytes) -> bytes:
        done = asyncio.get_running_loop().create_future()
        async with turn:
            waiting.append(done)
            await call.write(body)
        reply: bytes = await done
        return reply

    reader = asyncio.create_task(_deliver(call, waiting))
    try:
        yield ask
    finally:
        call.cancel()
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


async def _deliver(call: aio.StreamStreamCall, waiting: deque[asyncio.Future[bytes]]) -> None:
    reason: BaseException = RuntimeError("the stream ended early")
    try:
        async for reply in call:
            waiting.popleft().set_result(reply)
    except aio.AioRpcError as error:
        reason = error
    for done in waiting:
        if not done.done():
            done.set_exception(reason)


@contextmanager
def _awake(servers: Iterable[Server]) -> Iterator[None]:
    """Lets held servers go, and holds them again."""
    for one in servers:
        family.let_go(one.process.pid)
    try:
        yield
    finally:
        for one in servers:
            family.hold(one.process.pid)


def always(body: bytes) -> Callable[[], Awaitable[bytes]]:
    """The same bytes for every call, made before the measurement."""

    async def make() -> bytes:
        return body

    return make


def points(form: str, sizes: Sequence[int], ways: Mapping[str, Way], seconds: float) -> dict[Point, Timed]:
    """Each way at each number of calls in flight."""
    return {
        (f"{form}, {size}", name): partial(way.measure, size, seconds)
        for size in sizes
        for name, way in ways.items()
    }
