"""Streams are recorded behind their backs: told first, written a little later, many in one go. Knows no engine.

A stream never waits for Redis and never fails for its sake. What cannot be written waits, within a bound.
"""

import asyncio
import logging
import secrets
from typing import Protocol

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation.resume.record import Header, Record
from services.generation.resume.recording import Recording
from services.generation.resume.store import PREFIX, Entry, RecordStore, key_of
from services.runtime.metrics import Metrics
from services.runtime.redis_link import NoAnswer

PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
PAUSE_A_STREAM_S = 0.002  # writing an entry costs the event loop a part of that
MOST_AT_ONCE = 1 << 20  # bytes
MOST_WAITING = 16 << 20
ID_BYTES = 18

log = logging.getLogger("maas.streams")


class Tape(Protocol):
    """What a stream is recorded on, under `stream_id`."""

    stream_id: str

    def tell(self, message: service_pb.GenerateStreamResponse) -> None:
        """The next message, just before it is told. PreconditionFailed once the stream was taken over."""

    async def finish(self) -> None:
        """After the last message: it is as good as kept, if that takes no longer than a moment."""


class Blank:
    """Keeps nothing."""

    def __init__(self) -> None:
        self.stream_id = new_id()

    def tell(self, message: service_pb.GenerateStreamResponse) -> None:
        """Nobody will ask."""

    async def finish(self) -> None:
        """Nothing to keep."""


def new_id(process: str = "") -> str:
    """What tells the process, then 144 random bits: an id is what lets its holder read the stream."""
    return process + secrets.token_urlsafe(ID_BYTES)


class Recorder:
    """Writes the recordings of one process, made and used on one event loop. A record ends with `most_bytes`."""

    def __init__(self, store: RecordStore, most_bytes: int, metrics: Metrics) -> None:
        self.store, self.most_bytes = store, most_bytes
        self._metrics = metrics
        self._process = secrets.token_urlsafe(PREFIX)[:PREFIX]
        self._waiting: dict[Recording, None] = {}
        self._bytes = 0
        self._woken = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def record(self, tenant: str, header: Header) -> Recording:
        """A new stream."""
        stream_id = new_id(self._process)
        recording = Recording(self, stream_id, key_of(tenant, stream_id))
        recording.begin(header)
        self.count("recorded")
        return recording

    def goes_on(self, tenant: str, stream_id: str, record: Record) -> Recording:
        """A stream whose record is `record` so far."""
        key = key_of(tenant, stream_id)
        return Recording(self, stream_id, key, record.entries, record.size, len(record.messages))

    def count(self, event: str) -> None:
        """For the metrics."""
        self._metrics.stream_records.labels(event).inc()

    def admit(self, recording: Recording, size: int) -> bool:
        """Makes `recording` wait for its turn, with so many bytes more. False if too many wait already."""
        if self._bytes + size > MOST_WAITING:
            self.count("dropped")
            return False
        self._bytes += size
        self._waiting[recording] = None
        self._woken.set()
        return True

    def leave(self, size: int) -> None:
        """So many bytes wait no longer."""
        self._bytes -= size

    async def start(self) -> None:
        """From now on what waits is written."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Writes what waits, if Redis takes it, then lets go of Redis."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting and await self.flush():
            pass
        await self.store.close()

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(min(max(PAUSE_S, PAUSE_A_STREAM_S * len(self._waiting)), LONGEST_PAUSE_S))
            self._woken.clear()
            if not await self.flush():
                await asyncio.sleep(LONGEST_PAUSE_S)

    async def flush(self) -> bool:
        """Writes what waits, as much as goes at once. False if Redis did not answer: then it waits on."""
        async with self._flushing:
            batch = self._batch()
            try:
                await self._write(batch)
            except NoAnswer:
                return False
            finally:
                # Also when cancelled: whether an entry stands is then found out by writing it again.
                self._waiting |= {recording: None for recording, _ in batch if recording.waits}
                if self._waiting:
                    self._woken.set()
        return True

    async def _write(self, batch: list[tuple[Recording, Entry]]) -> None:
        outcomes = await self.store.write([entry for _, entry in batch]) if batch else []
        for (recording, _), outcome in zip(batch, outcomes, strict=True):
            recording.learn(outcome)

    def _batch(self) -> list[tuple[Recording, Entry]]:
        """Who waited longest comes first."""
        found: list[tuple[Recording, Entry]] = []
        size = 0
        for recording in list(self._waiting):
            if size >= MOST_AT_ONCE:
                break
            del self._waiting[recording]
            if recording.waits:
                found.append((recording, recording.due()))
                size += len(found[-1][1].data)
        return found
