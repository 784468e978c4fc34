"""TokenStream: from the engine's thread to one asyncio reader. Knows no protos and no text."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.generation.engine.output import Delta
from services.generation.engine.request import Sequence as EngineSequence


class Observer(Protocol):
    """What an engine tells of itself; the metrics implement it."""

    def stepped(self, sequences: int, waiting: int) -> None: ...

    def token(self, since_s: float, first: bool) -> None: ...

    def started(self, queue_s: float, prompt_tokens: int, cached_tokens: int) -> None: ...


class TokenStream:
    """The deltas of one request in the order they happened; bounded by the request's own max_tokens.

    `feed` and reading belong to the event loop's thread.
    """

    def __init__(self, sequences: Sequence[EngineSequence], observer: Observer) -> None:
        self.sequences = sequences
        self._observer = observer
        self._last: dict[int, float] = {}  # when each sequence got its last token
        self.submitted = time.monotonic()
        self.batch_size = 1
        self._open = len(sequences)
        self._queue: asyncio.Queue[Delta] = asyncio.Queue()

    @property
    def finished(self) -> bool:
        """Whether the engine has ended every sequence."""
        return self._open == 0

    @property
    def queue_ms(self) -> float:
        """From submission until the first sequence was first computed."""
        started = self.sequences[0].started
        return 0.0 if started is None else (started - self.submitted) * 1000

    def feed(self, delta: Delta) -> None:
        """News of one of the sequences."""
        self._open -= delta.last
        self.batch_size = max(self.batch_size, delta.batch_size)
        self._queue.put_nowait(delta)
        if delta.token_ids:
            self._observe(delta.sequence)

    def _observe(self, sequence: EngineSequence) -> None:
        if not self._last:
            prompt = len(sequence.request.prompt)
            self._observer.started(self.queue_ms / 1000, prompt, self.sequences[0].cached_tokens)
        now, before = time.monotonic(), self._last.get(sequence.index)
        self._last[sequence.index] = now
        self._observer.token(now - (before or self.submitted), first=before is None)

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Ends when every sequence has ended; raises the error that ended one."""
        waiting = len(self.sequences)
        while waiting:
            delta = await self._queue.get()
            if delta.error is not None:
                raise delta.error
            waiting -= delta.last
            yield delta
