"""Who computes next: admission, chunked prefill, decode, preemption by recompute. No torch, no clock."""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from services.generation.engine import prefix
from services.generation.engine.blocks import BlockPool
from services.generation.engine.request import Sequence
from services.generation.engine.step import Chunk, Step


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one step: prompt tokens computed, sequences running; whether drafts are computed, too."""

    max_batch_tokens: int = 256
    max_sequences: int = 64
    speculation: bool = True


class Scheduler:
    """Every sequence is in exactly one of `waiting` and `running`, both in `Sequence.order`.

    Running sequences hold the blocks of all their tokens. A waiting sequence whose next prompt block is being
    computed by a running one waits for it, so equal prompts that arrive together are computed once.
    """

    def __init__(self, pool: BlockPool, limits: Limits = Limits()) -> None:
        self.pool = pool
        self.limits = limits
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.context = 0  # most tokens of a sequence; nothing is drafted beyond
        self._arrivals = count()
        self._computing: dict[bytes, Sequence] = {}  # block name → the running sequence that will publish it

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the sequences of one request."""
        arrival = next(self._arrivals)
        for sequence in sequences:
            sequence.arrival = arrival
            insort(self.waiting, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Forget the sequence and free its blocks; its computed blocks stay findable."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._release(sequence)

    def sequences(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def schedule(self) -> Step:
        """The next step: every decode, then prompts within the token budget. Empty when nothing can run."""
        self._secure_blocks()
        plan = Plan(self.limits.max_batch_tokens, len(self.running))
        for sequence in self.running:
            plan.add(sequence, self._drafts(sequence, plan))
        for sequence in self._admissions() if plan.budget else ():
            plan.add(sequence)
            if not plan.budget:
                break
        return Step(tuple(plan.chunks))

    def _drafts(self, sequence: Sequence, plan: "Plan") -> tuple[int, ...]:
        """Guesses to compute with the sequence's next token, which are never worth a preemption."""
        if not self.limits.speculation or sequence.pending != 1:
            return ()
        most = min(sequence.room, self.context - len(sequence.tokens)) - 1
        known = sequence.known[sequence.output_length :][: max(min(most, plan.budget), 0)]
        drafts = known or sequence.drafter.propose(sequence.tokens, plan.rows, most)
        return tuple(drafts[: self._hold(sequence, len(sequence.tokens) + len(drafts)) - len(sequence.tokens)])

    def _hold(self, sequence: Sequence, tokens: int) -> int:
        """Tokens, of so many, that the sequence's blocks hold with what can be had."""
        more = self.pool.blocks_for(tokens) - len(sequence.blocks)
        sequence.blocks += self.pool.allocate(min(more, self.pool.available))
        return len(sequence.blocks) * self.pool.block_size

    def _admissions(self) -> Iterator[Sequence]:
        """Admit waiting sequences one at a time: each changes what the next may share."""
        for sequence in list(self.waiting):
            if len(self.running) >= self.limits.max_sequences:
                return
            if self._must_wait(sequence):
                continue
            if not self._admit(sequence):
                return
            yield sequence

    def commit(self, sequence: Sequence, computed: int) -> None:
        """The keys and values of so many tokens are in its blocks now: publish the blocks that are full."""
        before, after = (edge // self.pool.block_size for edge in (sequence.computed, computed))
        sequence.computed = computed
        self._name_blocks(sequence, after)
        for place in range(before, after):
            name = sequence.hashes[place]
            self.pool.publish(sequence.blocks[place], name)
            self._withdraw(sequence, name)

    def _secure_blocks(self) -> None:
        """Give each running sequence the block its next token needs, at the cost of the last in order."""
        for sequence in list(self.running):
            while sequence in self.running and self._missing(sequence) > self.pool.available:
                self._preempt(self.running[-1])
            if sequence in self.running:
                sequence.blocks += self.pool.allocate(self._missing(sequence))

    def _missing(self, sequence: Sequence) -> int:
        return self.pool.blocks_for(len(sequence.tokens)) - len(sequence.blocks)

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the queue; what is not found in the prefix cache later is computed again."""
        self.preemptions += 1
        self.running.remove(sequence)
        self._release(sequence)
        insort(self.waiting, sequence, key=_order)

    def _must_wait(self, sequence: Sequence) -> bool:
        if sequence.scores_prompt or sequence.awaits_scores:
            return sequence.awaits_scores
        names = self._shareable(sequence)
        found = len(self.pool.match(names))
        return found < len(names) and names[found] in self._computing

    def _admit(self, sequence: Sequence) -> bool:
        """Move from waiting to running if the blocks of all its tokens can be had."""
        shared = [] if sequence.scores_prompt else self.pool.match(self._shareable(sequence))
        self.pool.share(shared)
        missing = self.pool.blocks_for(len(sequence.tokens)) - len(shared)
        if missing > self.pool.available:
            self.pool.release(shared)
            return False
        self._start(sequence, shared + self.pool.allocate(missing), len(shared) * self.pool.block_size)
        return True

    def _start(self, sequence: Sequence, blocks: list[int], cached: int) -> None:
        self.waiting.remove(sequence)
        insort(self.running, sequence, key=_order)
        sequence.blocks, sequence.computed = blocks, cached
        if sequence.started is None:
            sequence.cached_tokens = min(cached, len(sequence.request.prompt))
        self._name_blocks(sequence, len(sequence.tokens) // self.pool.block_size)
        for name in sequence.hashes[cached // self.pool.block_size :]:
            self._computing.setdefault(name, sequence)

    def _shareable(self, sequence: Sequence) -> list[bytes]:
        """Names of the blocks others may give; the last token is always computed, for its logits."""
        blocks = (len(sequence.tokens) - 1) // self.pool.block_size
        self._name_blocks(sequence, blocks)
        return sequence.hashes[:blocks]

    def _name_blocks(self, sequence: Sequence, blocks: int) -> None:
        size = self.pool.block_size
        prefix.extend(sequence.hashes, sequence.request.salt, sequence.tokens, size, blocks)

    def _release(self, sequence: Sequence) -> None:
        for name in sequence.hashes:
            self._withdraw(sequence, name)
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.computed = [], 0

    def _withdraw(self, sequence: Sequence, name: bytes) -> None:
        if self._computing.get(name) is sequence:
            del self._computing[name]

    def check_integrity(self) -> None:
        """AssertionError unless queues are disjoint and ordered and every block is accounted for."""
        everyone = [id(sequence) for sequence in self.sequences()]
        assert len(set(everyone)) == len(everyone), "a sequence is queued twice"
        assert all(queue == sorted(queue, key=_order) for queue in (self.waiting, self.running))
        assert not any(sequence.blocks for sequence in self.waiting), "a waiting sequence holds blocks"
        assert {id(owner) for owner in self._computing.values()} <= {id(s) for s in self.running}
        self.pool.check_integrity([sequence.blocks for sequence in self.running])


@dataclass(slots=True)
class Plan:
    """A step as it is put together. Decodes are free, prompt tokens cost budget."""

    budget: int
    rows: int  # of all decodes, with the drafts so far
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, sequence: Sequence, drafts: tuple[int, ...] = ()) -> None:
        """The sequence's next chunk, as much of it as the budget allows."""
        decode = sequence.pending == 1
        size = 1 if decode else min(sequence.pending, self.budget)
        self.budget -= 0 if decode else size
        self.rows += len(drafts)
        if size:
            self.chunks.append(Chunk(sequence, sequence.computed, size + len(drafts), drafts))


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order
