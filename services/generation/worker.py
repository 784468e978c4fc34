"""The engine's own thread: inbox (add, abort, stop) → step() while there is work. Knows no protos.

A step that fails ends the requests in it, not the thread. Deltas reach the event loop in one wake-up a step.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread

import torch

from services.generation import capabilities
from services.generation.engine.engine import Engine
from services.generation.engine.output import Delta
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.stream import Observer, TokenStream
from services.runtime.errors import Overloaded, Unavailable

log = logging.getLogger("maas.engine")

RETRY_AFTER_S = 1.0
GAP_A_STREAM_S, WIDEST_GAP_S = 0.001, 0.05


class EngineWorker:
    """Runs one engine; made, used and closed on one event loop."""

    capabilities = capabilities.ENGINE

    def __init__(
        self, engine: Engine, name: str, observer: Observer, *, threads: int = 1, queue_limit: int = 512
    ) -> None:
        self.engine = engine
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._limit = queue_limit + engine.scheduler.limits.max_sequences
        self._accepted = 0
        self._closing = False
        self._inbox: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, args=(threads,), name=name, daemon=True)
        self._thread.start()

    @contextmanager
    def open(self, sequences: Sequence[EngineSequence], *, whole: bool = False) -> Iterator[TokenStream]:
        """The sequences of one request, in the engine for the length of the block; left early, they are aborted.
        `whole`: the reader is not woken before the end of one.

        Raises Overloaded when the waiting queue is full, Unavailable once closing.
        """
        places = max(len(sequences), sequences[0].request.sampling.num_beams)
        self._admit(places)
        stream = TokenStream(sequences, self._observer, _never if whole else self._gap)
        for sequence in sequences:
            sequence.listener = stream.feed
        self._accepted += places
        self._inbox.put(partial(self.engine.add, list(sequences)))
        try:
            yield stream
        finally:
            self._accepted -= places
            if not stream.finished:
                self._inbox.put(partial(self.engine.abort, sequences[0].request))

    async def close(self) -> None:
        """Ends what still runs with Unavailable, then the thread."""
        self._closing = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self.engine.runner.close()

    def _gap(self) -> float:
        """Seconds between two messages of a stream: a message costs the loop a part of a millisecond."""
        return min(GAP_A_STREAM_S * self._accepted, WIDEST_GAP_S)

    def _admit(self, count: int) -> None:
        if self._closing:
            raise Unavailable("the model is being unloaded; retry", retry_after_s=RETRY_AFTER_S)
        if self._accepted + count > self._limit:
            raise Overloaded(
                f"{self._accepted} sequences are running or waiting, the limit is {self._limit}; retry later",
                reason="QUEUE_FULL",
                metadata={"limit": str(self._limit)},
                retry_after_s=RETRY_AFTER_S,
            )

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        while self._obey():
            self._deliver(self._step())
        self._deliver(self.engine.drain(Unavailable("the model was unloaded", retry_after_s=RETRY_AFTER_S)))

    def _obey(self) -> bool:
        """Carry out the commands that wait; sleeps while the engine has nothing to do. False = stop."""
        while not (self.engine.busy and self._inbox.empty()):
            command = self._inbox.get()
            if command is None:
                return False
            command()
        return True

    def _step(self) -> list[Delta]:
        try:
            deltas = self.engine.step()
            if not self.engine.busy:
                self.engine.scheduler.check_integrity()
            return deltas
        except Exception as error:
            log.exception("step failed", extra={"step": self.engine.steps})
            return self.engine.fail(error)

    def _deliver(self, deltas: list[Delta]) -> None:
        if deltas and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, deltas, len(self.engine.scheduler.waiting))

    def _tell(self, deltas: list[Delta], waiting: int) -> None:
        self._observer.stepped(len({id(delta.sequence) for delta in deltas}), waiting)
        for delta in deltas:
            delta.sequence.listener(delta)


def _never() -> float:
    return math.inf
