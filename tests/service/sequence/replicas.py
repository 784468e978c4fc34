"""Replicas of the sequence service that share a Valkey, callers that keep to the contract, and a slow link."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from grpc import aio

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub as Stub
from services.runtime.floor import Floor
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests import harness
from tests.harness import running
from tests.service.sequence.calls import step
from tests.valkey import PATIENT

# Checkpoints come soon.
QUICK = {"session_checkpoint_steps": 8, "session_checkpoint_ms": 20, **PATIENT}


@asynccontextmanager
async def replica(
    store: ModelStore, redis_url: str, **overrides: Any
) -> AsyncIterator[tuple[Stub, Floor[SequenceSettings]]]:
    values = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5, "redis_url": redis_url, **QUICK}
    async with running(SequenceSettings(store=store.root, **{**values, **overrides}), build) as (channel, floor):
        yield Stub(channel), floor


def process(
    store: ModelStore, redis_url: str, *flags: str
) -> AbstractContextManager[tuple["subprocess.Popen[str]", str]]:
    """A replica in a process of its own, once it serves, and its address."""
    quick = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
    where = [f"--store={store.root}", f"--redis-url={redis_url}", "--lame-duck-s=0"]
    return harness.process("sequence", *where, *quick, *flags)


class Broken(Exception):
    """The stream ended where an answer was awaited."""


class Caller:
    """Sends frames as steps and goes on after breaks; forgets an input as soon as the contract lets it."""

    def __init__(self, frames: np.ndarray, session_id: str) -> None:
        self.kept = dict(enumerate(frames, 1))
        self.session_id, self.total = session_id, len(frames)
        self.heard: dict[int, list[float]] = {}
        self.safe: int | None = None
        self.last_step = 0

    @property
    def scores(self) -> list[list[float]]:
        assert sorted(self.heard) == list(range(1, self.total + 1))
        return [self.heard[number] for number in range(1, self.total + 1)]

    @property
    def missing(self) -> int:
        """The first step without an output."""
        return next(n for n in range(1, self.total + 2) if n not in self.heard)

    def learn(self, told: Any) -> None:
        if told.HasField("checkpointed_step"):
            self.safe = max(self.safe or 0, told.checkpointed_step)
        for number in [n for n in self.kept if n in self.heard and n <= (self.safe or 0)]:
            del self.kept[number]

    def take(self, output: sequence_pb2.StepOutput) -> None:
        scores = list(output.scores)
        # Told twice, it is told alike.
        assert self.heard.setdefault(output.step, scores) == scores
        self.learn(output)

    async def open(self, stub: Stub) -> Any:
        """A stream that goes on with the session, or begins it if nothing of it can be left."""
        call = stub.RunSession()
        opening = sequence_pb2.OpenSession(session_id=self.session_id, resume=self.safe is not None)
        await call.write(pb.RunSessionRequest(open=opening))
        if (reply := await call.read()) is aio.EOF:
            raise Broken
        opened = reply.opened
        assert opened.session_id == self.session_id
        self.last_step = opened.last_step
        self.learn(opened)
        return call

    async def talk(self, stub: Stub, upto: int, ahead: int = 1) -> Any:
        """Steps until the output of `upto` is there, `ahead` of them under way; the stream stays open."""
        call = await self.open(stub)
        first = min(self.missing, self.last_step + 1)
        sent = first
        for awaited in range(first, upto + 1):
            while sent <= min(awaited + ahead - 1, upto):
                await call.write(pb.RunSessionRequest(step=step(sent, self.kept[sent])))
                sent += 1
            reply = await call.read()
            if reply is aio.EOF or not reply.HasField("output"):
                raise Broken(reply)
            assert reply.output.step == awaited
            self.take(reply.output)
        return call

    async def step_once(self, stub: Stub, number: int, **fields: Any) -> pb.StepSessionResponse:
        """One step as a call of its own."""
        asked = {"session_id": self.session_id} | fields
        reply = await stub.StepSession(pb.StepSessionRequest(step=step(number, self.kept[number]), **asked))
        self.take(reply.output)
        self.learn(reply.status)
        return reply


async def goes_on(call: Any, first: int, last: int, frame: np.ndarray) -> Any:
    """Sends steps, a little apart, whatever comes back; `ended` if the stream is ended before the last output."""

    async def speak() -> None:
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            for number in range(first, last + 1):
                await call.write(pb.RunSessionRequest(step=step(number, frame)))
                await asyncio.sleep(0.01)

    speaking = asyncio.create_task(speak())
    try:
        while not (reply := await call.read()).HasField("ended"):
            if reply.output.step == last:
                return None
        return reply.ended
    finally:
        speaking.cancel()


class Proxy:
    """Stands before a unix socket; holds back every answer for `delay_s`, and all bytes while `stuck`."""

    def __init__(self, behind: str, path: Path) -> None:
        self._behind, self.path = behind, path
        self.delay_s, self.passing = 0.0, asyncio.Event()
        self.passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._behind)
        for source, target, late in ((reader, ours, False), (theirs, writer, True)):
            task = asyncio.create_task(self._pump(source, target, late))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, late: bool) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                await asyncio.sleep(self.delay_s if late else 0)
                await self.passing.wait()
                target.write(data)
                await target.drain()
        target.close()
