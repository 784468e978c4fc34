"""TokenStream: from the engine's thread to one asyncio reader. Knows no protos and no text."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from services.generation.engine.load import Load
from services.generation.engine.output import Delta
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.traced import told_phases
from services.runtime.context import current
from services.runtime.tracing.span import Span


class Observer(Protocol):
    """What an engine tells of itself; the metrics implement it."""

    def stepped(self, sequences: int, waiting: int) -> None: ...

    def stands(self, load: Load) -> None: ...

    def tokens(self, count: int, since_s: float, first: bool, span: Span | None = None) -> None: ...

    def started(self, queue_s: float, prompt_tokens: int, cached_tokens: int) -> None: ...

    def broke(self) -> None:
        """It computes nothing any more; its model must be loaded anew."""


class TokenStream:
    """The deltas of one request in the order they happened; bounded by the request's own max_tokens.

    The reader is woken for the first token, for the end, and else once `gap` seconds have passed since the last
    time: many streams shall cost the loop no more than few. `feed` and reading belong to the event loop's thread.
    """

    def __init__(
        self, sequences: Sequence[EngineSequence], observer: Observer, gap: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.sequences = sequences
        self.span = current().span
        for sequence in sequences:
            sequence.span = self.span
        self._observer = observer
        self._gap = gap
        self._last: dict[int, float] = {}  # when each sequence got its last token
        self._first: float | None = None  # and any of them its first
        self.submitted = time.monotonic()
        self.batch_size = 1
        self._open = len(sequences)
        self._held: list[Delta] = []
        self._woken = asyncio.Event()
        self._woken_at = 0.0

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
        self._held.append(delta)
        now = time.monotonic()
        first = bool(delta.token_ids) and self._observe(delta.sequence, len(delta.token_ids), now)
        if first or delta.last or now - self._woken_at >= self._gap():
            self._woken_at = now
            self._woken.set()

    def break_off(self, error: Exception) -> None:
        """No more news will come: the reader gets what is there, then `error`."""
        self._held.append(Delta(self.sequences[0], error=error))
        self._woken.set()

    def _observe(self, sequence: EngineSequence, count: int, now: float) -> bool:
        """Whether these are the sequence's first tokens."""
        if not self._last:
            self._first, prompt = now, len(sequence.request.prompt)
            self._observer.started(self.queue_ms / 1000, prompt, self.sequences[0].cached_tokens)
        before = self._last.get(sequence.index)
        self._last[sequence.index] = now
        self._observer.tokens(count, now - (before or self.submitted), before is None, self.span)
        return before is None

    def trace(self) -> None:
        """Tells the call, if that is traced, the way of its request, which ends here."""
        if self.span is not None:
            asked, prompt = self.sequences[0], len(self.sequences[0].request.prompt)
            told_phases(self.span, self.submitted, asked.started, self._first, prompt, asked.cached_tokens)

    async def batches(self) -> AsyncIterator[list[Delta]]:
        """All that came since the reader looked last, until every sequence has ended; raises the error that ended
        one, after what came before it."""
        waiting = len(self.sequences)
        while waiting:
            await self._woken.wait()
            self._woken.clear()
            batch, self._held = self._held, []
            errors = [delta.error for delta in batch if delta.error is not None]
            waiting -= sum(delta.last for delta in batch)
            yield [delta for delta in batch if delta.error is None]
            if errors:
                raise errors[0]
