"""Random lives of an engine: arrivals, aborts, steps, faults, time, drains; the accounts hold after each."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from services.generation.engine.blocks import NULL_BLOCK, BlockPool
from services.generation.engine.engine import Engine
from services.generation.engine.output import Delta
from services.generation.engine.request import Request, SamplingParams, Stopping
from services.generation.engine.request import Sequence as EngineSequence
from services.generation.engine.row import Row
from services.generation.engine.runner import Computed, Runner
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.engine.step import Chunk, Step
from tests.engine.tiny import Foretold, Result, collect, text_sink

SAMPLINGS = (
    *(SamplingParams(), SamplingParams(), SamplingParams(), SamplingParams(temperature=1.0)),
    SamplingParams(temperature=1.5, top_k=5, frequency_penalty=0.5, logit_bias={3: 2.0}),
    SamplingParams(num_beams=3),
)


class Ledger:
    """A runner without a net: its cells hold tokens, and each row must find exactly its own context in them."""

    def __init__(self, num_blocks: int, block_size: int, vocab: int, rows: dict[int, Row]) -> None:
        self._cells = [[-1] * block_size for _ in range(num_blocks)]
        self._size, self._vocab = block_size, vocab
        self._rows = rows  # by number, those that were made so far

    def run(self, step: Step) -> Computed:
        ends, rows = [], list[int]()
        for chunk in step.chunks:
            self._write(chunk)
        for chunk in step.chunks:
            rows += self._read(chunk)
            ends.append(len(rows))
        return Computed(step.chunks, ends, torch.tensor(rows))

    def _write(self, chunk: Chunk) -> None:
        for place, token in enumerate(chunk.tokens, start=chunk.start):
            block = chunk.sequence.blocks[place // self._size]
            assert block != NULL_BLOCK
            self._cells[block][place % self._size] = token

    def _read(self, chunk: Chunk) -> list[int]:
        """A number for each row that its last three tokens decide."""
        found = [token for block in chunk.sequence.blocks for token in self._cells[block]]
        assert found[: chunk.start] == chunk.sequence.tokens[: chunk.start], "another's context"
        assert found[chunk.start : chunk.end] == chunk.tokens, "overwritten"
        return [hash(tuple(found[max(place - 2, 0) : place + 1])) for place in range(chunk.start, chunk.end)]

    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        numbers = computed.hidden[list(rows)].tolist()
        for number in set(numbers) - self._rows.keys():
            self._rows[number] = self._row(number)
        return [self._rows[number] for number in numbers]

    def _row(self, number: int) -> Row:
        logits = torch.tensor([(number >> (3 * token)) % 8 / 2 + token / 100 for token in range(self._vocab)])
        peak, best = logits.max(-1)
        return Row(logits.unsqueeze(0), 0, int(best), float(peak), float(logits.logsumexp(-1)))

    def copy_block(self, source: int, target: int) -> None:
        self._cells[target] = list(self._cells[source])

    def close(self) -> None: ...


class Faulty:
    """A runner that fails when told to, before or after its pass."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.fails = ""

    def run(self, step: Step) -> Computed:
        self._fail_if("before")
        computed = self._runner.run(step)
        self._fail_if("after")
        return computed

    def logits(self, computed: Computed, rows: Sequence[int]) -> list[Row]:
        self._fail_if("logits")
        return self._runner.logits(computed, rows)

    def _fail_if(self, where: str) -> None:
        if self.fails == where:
            self.fails = ""
            raise RuntimeError(f"fault {where} the pass")

    def copy_block(self, source: int, target: int) -> None:
        self._runner.copy_block(source, target)

    def close(self) -> None: ...


@dataclass
class Lives:
    """`make(num_blocks)` gives a runner; prompts are at most `longest` tokens."""

    make: Callable[[int], Runner]
    num_blocks: int
    block_size: int
    limits: Limits
    vocab: int
    longest: int
    draw: random.Random
    now: float = 0.0
    alive: list[EngineSequence] = field(default_factory=list)
    results: dict[EngineSequence, Result] = field(default_factory=dict)
    ended: dict[EngineSequence, Delta | None] = field(default_factory=dict)  # None: aborted
    alone: dict[EngineSequence, Result] = field(default_factory=dict)
    happened: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.runner = Faulty(self.make(self.num_blocks))
        self.context = (self.num_blocks - 1) * self.block_size
        self.engine = self._engine(self.runner, self.num_blocks, self.limits, lambda: self.now)
        self._prefixes = [self._tokens(self.longest) for _ in range(2)]

    def _engine(self, runner: Runner, blocks: int, limits: Limits, clock: Callable[[], float]) -> Engine:
        return Engine(Scheduler(BlockPool(blocks, self.block_size), limits), runner, self.context, clock)

    def _tokens(self, count: int) -> list[int]:
        return [self.draw.randrange(self.vocab) for _ in range(count)]

    def run(self, operations: int) -> None:
        """So many random operations, then none but steps until everything has ended."""
        for _ in range(operations):
            self._operate()
            self.engine.scheduler.check_integrity()
        while self.engine.busy:
            self._step()
        pool = self.engine.scheduler.pool
        assert pool.available == pool.usable and not self.alive

    def _operate(self) -> None:
        move = self.draw.random()
        if move < 0.25 and len(self.alive) < 40:
            self._add()
        elif move < 0.28 and self.alive:
            self._abort(self.draw.choice(self.alive).request)
        elif move < 0.29:
            self.runner.fails = self.draw.choice(("before", "after", "logits"))
        elif move < 0.2905:
            self._take(self.engine.drain(RuntimeError("drained")))
            assert not self.engine.busy
        elif move < 0.40:
            self.now += self.draw.random()
        else:
            self._step()

    def _add(self) -> None:
        request = self._request()
        count = 1 if request.sampling.searches else self.draw.randint(1, 3)
        family = [self._sequence(request, index) for index in range(count)]
        self.alive += family
        self.results |= {one: Result() for one in family}
        self.engine.add(family)

    def _request(self) -> Request:
        draw = self.draw
        shared = draw.choice(self._prefixes)[: draw.choice((0, self.longest // 3, self.longest - 1))]
        prompt = shared + self._tokens(draw.randint(1, max(1, self.longest - len(shared))))
        most = draw.choice((0, 1, 4, 12))
        return Request(
            tuple(prompt),
            draw.choice(SAMPLINGS),
            Stopping(
                max_tokens=min(most, self.context - len(prompt)),
                min_tokens=min(most, draw.randrange(4)),
                eos_token_ids=frozenset(draw.choice(((), (1,)))),
            ),
            seed=draw.randrange(100),
            prompt_logprobs=draw.choice((None, None, None, 0)),
            priority=draw.randint(-1, 1),
            tenant=draw.choice("abc"),
            deadline=draw.choice((None, None, self.now + draw.uniform(0, 12))),
            salt=draw.choice((b"", b"salt")),
        )

    def _sequence(self, request: Request, index: int) -> EngineSequence:
        """Some come with drafts: the truth, or the truth with a lie in it."""
        one = EngineSequence(request, index, text_sink("ab"))
        self.alone[one] = self._lone(one)
        if self.draw.random() < 0.3:
            known = list(self.alone[one].tokens)
            if known and self.draw.random() < 0.5:
                known[self.draw.randrange(len(known))] = self.draw.randrange(self.vocab)
            one.drafter = Foretold(len(request.prompt), known)
        return one

    def _lone(self, one: EngineSequence) -> Result:
        """What it says when it is alone in an engine that drafts nothing."""
        engine = self._engine(self.make(self.num_blocks), self.num_blocks, Limits(speculation=False), lambda: 0.0)
        asked = replace(one.request, deadline=None, prompt_logprobs=None, prompt_scores={})
        alone = EngineSequence(asked, one.index, text_sink("ab"))
        engine.add([alone])
        (result,) = collect(engine, [alone])
        engine.runner.close()
        return result

    def _abort(self, request: Request) -> None:
        self.engine.abort(request)
        for one in [one for one in self.alive if one.request is request]:
            self._end(one, None)

    def _step(self) -> None:
        before = self.engine.scheduler.preemptions
        try:
            deltas = self.engine.step()
        except RuntimeError as error:
            deltas = self.engine.fail(error)
        self._take(deltas)
        self.engine.scheduler.check_integrity()
        if self.engine.scheduler.preemptions > before:
            self.happened.add("preempted")

    def _take(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            assert delta.sequence not in self.ended, "news after the end"
            self.results[delta.sequence].take(delta)
            if delta.last:
                self._end(delta.sequence, delta)

    def _end(self, one: EngineSequence, delta: Delta | None) -> None:
        self.alive.remove(one)
        self.ended[one] = delta
        error = delta.error if delta else None
        self.happened.add(type(error).__name__ if error else "finished" if delta else "aborted")

    def check_texts(self) -> None:
        """Whoever finished said what it says alone; whoever was stopped had begun to."""
        for one, end in self.ended.items():
            found, alone = self.results[one], self.alone[one]
            count = len(found.tokens)
            assert found.tokens == alone.tokens[:count] and alone.text.startswith(found.text)
            if end is not None and end.finish:
                assert (found.tokens, found.text, found.logprob) == (alone.tokens, alone.text, alone.logprob)
