"""The engine: add, abort, and step() = schedule → run → commit. Single-threaded; knows no text and no protos."""

import time
from collections.abc import Callable

from services.generation.engine import sampler, search_steps
from services.generation.engine.advance import advance
from services.generation.engine.deadlines import Deadlines
from services.generation.engine.output import Delta, FinishReason
from services.generation.engine.request import Request, Sequence
from services.generation.engine.row import Row
from services.generation.engine.runner import Computed, Runner
from services.generation.engine.scheduler import Scheduler
from services.generation.engine.search_steps import Place
from services.generation.engine.step import Chunk, Step

LOGITS_ROWS = 64  # rows whose logits exist at a time


class Engine:
    """Owns the scheduler and the runner. `steps` counts forward passes, `computed_tokens` the rows in them."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        context: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.context = scheduler.context = context
        self.steps = 0
        self.computed_tokens = 0
        self.drafted = 0
        self.accepted = 0
        self.skipped = 0  # sequences whose deadline ended them before anything was computed
        self._clock = clock
        self._deadlines = Deadlines(scheduler)
        self._step = Step(())
        self._news: list[Delta] = []

    @property
    def busy(self) -> bool:
        """Whether step() has anything to do."""
        return bool(self.scheduler.waiting or self.scheduler.running)

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the sequences of one request; each prompt is shorter than `context`."""
        self.scheduler.add(search_steps.started(sequences))

    def abort(self, request: Request) -> None:
        """Forget what is left of the request and free its blocks; it gets no more deltas."""
        for sequence in [s for s in self.scheduler.sequences() if s.request is request]:
            self.scheduler.remove(sequence)

    def step(self) -> list[Delta]:
        """One pass: news of every sequence that moved or ended."""
        self._step, self._news = Step(()), []
        self._expire()
        self.scheduler.age(self._clock())
        self._step = self.scheduler.schedule()
        if self._step.chunks:
            began = self._clock()
            self._mark_started(began)
            computed = self.runner.run(self._step)
            self.steps += 1
            self.computed_tokens += self._step.tokens
            self._commit(computed)
            self._measured(self._clock() - began, self._step.tokens)
        return self._news

    def _measured(self, seconds: float, rows: int) -> None:
        self._deadlines.estimate.took(seconds, rows)
        self.scheduler.cost.took(seconds, rows)

    def fail(self, error: Exception) -> list[Delta]:
        """After step() raised: its news so far, and the end of the other sequences in it, or of all if none."""
        told = {id(delta.sequence) for delta in self._news if delta.last}
        hit = [chunk.sequence for chunk in self._step.chunks if id(chunk.sequence) not in told]
        return self._news + (self._drop(hit, error) if hit else self.drain(error))

    def drain(self, error: Exception) -> list[Delta]:
        """End every sequence with `error`."""
        return self._drop(list(self.scheduler.sequences()), error)

    def _expire(self) -> None:
        for sequence, error in self._deadlines.missed(self._clock()):
            self.skipped += sequence.started is None
            self._news += self._drop([sequence], error)

    def _drop(self, sequences: list[Sequence], error: Exception) -> list[Delta]:
        """End these; a beam takes its whole search along, which ends once."""
        return [delta for sequence in sequences for delta in search_steps.dropped(sequence, error, self.scheduler)]

    def _mark_started(self, now: float) -> None:
        for chunk in self._step.chunks:
            if chunk.sequence.started is None:
                chunk.sequence.started = now

    def _commit(self, computed: Computed) -> None:
        rows = list(zip(computed.chunks, computed.ends, strict=True))
        for chunk, _ in rows:
            self.scheduler.sharing.publish(chunk.sequence, chunk.certain)
        scored = [(chunk, end) for chunk, end in rows if self._scored(chunk, computed, end - chunk.count)]
        self._choose(computed, [(chunk, end) for chunk, end in scored if chunk.completes])

    def _choose(self, computed: Computed, complete: list[tuple[Chunk, int]]) -> None:
        """The next tokens of chunks that end before these rows."""
        wanted = [(chunk, row) for chunk, end in complete for row in range(end - 1 - len(chunk.drafts), end)]
        self.drafted += len(wanted) - len(complete)
        for start in range(0, len(wanted), LOGITS_ROWS):
            part = wanted[start : start + LOGITS_ROWS]
            found = self.runner.logits(computed, [row for _, row in part])
            for (chunk, _), row in zip(part, found, strict=True):
                self._follow(chunk, row)

    def _follow(self, chunk: Chunk, row: Row) -> None:
        """One token further, unless the sequence ended or its drafts went astray before this row."""
        sequence = chunk.sequence
        if sequence.pending:
            return
        deltas = self._advance(sequence, row)
        self._news += deltas
        if not sequence.beam and not deltas[-1].last and chunk.foretold:
            self.scheduler.sharing.publish(sequence, sequence.computed + 1)
            self.accepted += 1

    def _advance(self, sequence: Sequence, row: Row) -> list[Delta]:
        """One token further, or only the end where none is wanted; what goes wrong ends this sequence alone."""
        if sequence.request.stopping.max_tokens == 0:
            return [self._close(Delta(sequence, finish=FinishReason.LENGTH))]
        try:
            if sequence.beam:
                place = Place(self.scheduler, self.runner, self.context, len(self._step.chunks))
                return search_steps.advanced(sequence.beam, row, place)
            delta = self._next(sequence, row)
        except Exception as error:
            return self._drop([sequence], error)
        return [self._close(delta)]

    def _next(self, sequence: Sequence, row: Row) -> Delta:
        token = sampler.choose(row, sequence)
        text = advance(sequence, token, self.context)
        wanted = sequence.request.logprobs
        return Delta(
            sequence,
            text=text,
            token_ids=(token,),
            logprob=row.log_probability(token),
            logprobs=() if wanted is None else (sampler.report(row.log_probabilities(), token, wanted),),
            finish=sequence.finish,
            batch_size=len(self._step.chunks),
        )

    def _close(self, delta: Delta) -> Delta:
        if delta.last:
            self.scheduler.remove(delta.sequence)
        return delta

    def _scored(self, chunk: Chunk, computed: Computed, first: int) -> bool:
        """Scores the chunk's part of the prompt, rows from `first` on, if wanted. False if that failed, which
        ended its sequence."""
        try:
            if chunk.sequence.scores_prompt:
                self._score(chunk, computed, first)
        except Exception as error:
            self._news += self._drop([chunk.sequence], error)
            return False
        return True

    def _score(self, chunk: Chunk, computed: Computed, first: int) -> None:
        """Log probabilities of the prompt tokens that follow the chunk's rows."""
        request = chunk.sequence.request
        for start in range(0, chunk.count, LOGITS_ROWS):
            rows = range(first + start, first + min(start + LOGITS_ROWS, chunk.count))
            for place, row in enumerate(self.runner.logits(computed, rows), start=chunk.start + start + 1):
                if place < len(request.prompt):
                    sampler.check(row)
                    token = request.prompt[place]
                    request.prompt_scores[place] = sampler.report(
                        row.log_probabilities(), token, request.prompt_logprobs or 0
                    )
