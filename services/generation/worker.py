"""The engine's own thread: inbox (add, abort, stop) → step() while there is work. Knows no protos.

A step that fails ends the requests in it, not the thread; so does a request that is not taken. Should the thread
end all the same, everybody hears of it. Deltas reach the event loop in one wake-up a step.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread

import torch

from services.generation import capabilities, traced
from services.generation.engine.engine import Engine
from services.generation.engine.load import Load, load
from services.generation.engine.output import Delta
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.seats import RETRY_AFTER_S, Seats, never
from services.generation.stream import Observer, TokenStream
from services.runtime.errors import Unavailable

log = logging.getLogger("maas.engine")


class EngineWorker:
    """Runs one engine; made, used and closed on one event loop."""

    capabilities = capabilities.ENGINE

    def __init__(
        self, engine: Engine, name: str, observer: Observer, *, threads: int = 1, queue_limit: int = 512
    ) -> None:
        self.engine = engine
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._seats = Seats(queue_limit + engine.scheduler.limits.max_sequences)
        self._streams: set[TokenStream] = set()
        self._inbox: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, args=(threads,), name=name, daemon=True)
        self._thread.start()

    @contextmanager
    def open(self, sequences: Sequence[EngineSequence], *, whole: bool = False) -> Iterator[TokenStream]:
        """The sequences of one request, in the engine for the length of the block; left early, they are aborted.
        `whole`: the reader is not woken before the end of one.

        Raises Overloaded when the waiting queue is full, Unavailable once closing.
        """
        request = sequences[0].request
        with self._seats.take(request.tenant, max(len(sequences), request.sampling.num_beams)):
            stream = TokenStream(sequences, self._observer, never if whole else self._seats.gap)
            for sequence in sequences:
                sequence.listener = stream.feed
            self._streams.add(stream)
            self._inbox.put(partial(self._add, list(sequences)))
            try:
                yield stream
            finally:
                self._streams.discard(stream)
                if not stream.finished:
                    self._inbox.put(partial(self.engine.abort, request))

    async def close(self) -> None:
        """Ends what still runs with Unavailable, then the thread."""
        self._seats.closing = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        self.engine.runner.close()

    def _run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        try:
            while self._obey():
                began = time.monotonic()
                self._deliver(self._step(), began)
            self._deliver(self.engine.drain(Unavailable("the model was unloaded", retry_after_s=RETRY_AFTER_S)))
        except Exception:
            log.critical("the engine broke down; its model is loaded anew", exc_info=True)
            self._loop.call_soon_threadsafe(self._break_off)

    def _break_off(self) -> None:
        """Nothing is computed any more, and what the engine knows of its sequences is in doubt."""
        self._seats.closing = True
        for stream in self._streams:
            stream.break_off(Unavailable("the engine broke down; retry", retry_after_s=RETRY_AFTER_S))
        self._observer.broke()

    def _obey(self) -> bool:
        """Carry out the commands that wait; sleeps while the engine has nothing to do. False = stop."""
        while not (self.engine.busy and self._inbox.empty()):
            if not self.engine.busy:
                self._rest()
            command = self._inbox.get()
            if command is None:
                return False
            command()
        return True

    def _add(self, sequences: list[EngineSequence]) -> None:
        """Into the engine, or out again with the reason: who waits for them must hear of it."""
        try:
            self.engine.add(sequences)
        except Exception as error:
            log.exception("a request was not taken")
            self.engine.abort(sequences[0].request)
            self._deliver([Delta(sequence, error=error) for sequence in sequences])

    def _step(self) -> list[Delta]:
        try:
            return self.engine.step()
        except Exception as error:
            log.exception("step failed", extra={"step": self.engine.steps})
            return self.engine.fail(error)

    def _rest(self) -> None:
        """With nothing to do: every block must be accounted for, and the last step's numbers hold no more."""
        try:
            self.engine.scheduler.check_integrity()
        except AssertionError:
            log.exception("KV blocks are unaccounted for")
        self._deliver([])

    def _deliver(self, deltas: list[Delta], began: float | None = None) -> None:
        """`began`: of the step that they are news of."""
        if not self._loop.is_closed():
            if began is not None:
                traced.told_step(deltas, began, time.monotonic())
            self._loop.call_soon_threadsafe(self._tell, deltas, load(self.engine))

    def _tell(self, deltas: list[Delta], now: Load) -> None:
        self._observer.stands(now)
        if deltas:
            self._observer.stepped(len({id(delta.sequence) for delta in deltas}), sum(now.waiting.values()))
        for delta in deltas:
            delta.sequence.listener(delta)
