"""Who computes next: admission, chunked prefill, decode, preemption by recompute. No torch, no clock.

A lower priority waits while higher ones take all there is; how long, says ageing.
"""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import count, takewhile

from services.generation.engine.ageing import Ageing
from services.generation.engine.blocks import BlockPool
from services.generation.engine.fairness import QUANTUM, Shares, Turns
from services.generation.engine.pass_cost import PassCost
from services.generation.engine.plan import Plan
from services.generation.engine.request import Sequence
from services.generation.engine.sharing import Sharing
from services.generation.engine.step import Step


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one step: prompt tokens computed, sequences running; whether drafts are computed, too.

    priority_step_s: what waits so long without anything of its priority being computed rises by one.
    """

    max_batch_tokens: int = 256
    max_sequences: int = 64
    speculation: bool = True
    priority_step_s: float = 5.0


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
        self.shares = Shares()
        self.sharing = Sharing(pool)
        self.cost = PassCost()
        self._ageing = Ageing(limits.priority_step_s)
        self._arrivals = count()

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the sequences of one request."""
        arrival = next(self._arrivals)
        self.shares.arrive(sequences[0].request.tenant, {one.request.tenant for one in self.waiting})
        for sequence in sequences:
            sequence.arrival = arrival
            insort(self.waiting, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Forget the sequence and free its blocks; its computed blocks stay findable."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self.sharing.release(sequence)
        if sequence.scores_prompt:
            self._hand_over_scoring(sequence)

    def _hand_over_scoring(self, sequence: Sequence) -> None:
        """Those that wait for the prompt's scores must not wait for ever."""
        siblings = [other for other in self.waiting if other.request is sequence.request]
        for other in siblings[:1]:
            other.is_scorer = True

    def sequences(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting

    def age(self, now: float) -> None:
        """Raise those who wait too long; before each `schedule`, in seconds."""
        if self._ageing.over(now):
            self._ageing.rise(now, merge(self.running, self.waiting, key=_order), self.shares)
            for queue in (self.running, self.waiting):
                queue.sort(key=_order)

    def schedule(self) -> Step:
        """The next step: every decode, then prompts within the token budget. Empty when nothing can run."""
        self._secure_blocks()
        self._admit_urgent()
        step = self._planned()
        while not step.chunks and (idle := [sequence for sequence in self.running if sequence.awaits_beams]):
            self._preempt(idle[-1])  # it needs its blocks no more than those need them who cannot be admitted
            step = self._planned()
        self._ageing.computed(step)
        return step

    def _planned(self) -> Step:
        plan = Plan(self.limits.max_batch_tokens, len(self.running), self.cost.fixed_rows)
        for sequence in self.running:
            if sequence.pending == 1:
                plan.guess(sequence, self._drafts(sequence, plan))
                self._grant(plan, sequence)
        self._plan_prompts(plan)
        return Step(tuple(plan.chunks()))

    def _drafts(self, sequence: Sequence, plan: Plan) -> tuple[int, ...]:
        """Guesses to compute with the sequence's next token, which are never worth a preemption."""
        if not self.limits.speculation or sequence.beam:
            return ()
        most = min(sequence.room, self.context - len(sequence.tokens)) - 1
        drafts = sequence.drafter.propose(sequence.tokens, plan.share, most)
        return tuple(drafts[: self._hold(sequence, len(sequence.tokens) + len(drafts)) - len(sequence.tokens)])

    def _hold(self, sequence: Sequence, tokens: int) -> int:
        """Tokens, of so many, that the sequence's blocks hold with what can be had."""
        more = self.pool.blocks_for(tokens) - len(sequence.blocks)
        sequence.blocks += self.pool.allocate(min(more, self.pool.available))
        return len(sequence.blocks) * self.pool.block_size

    def _plan_prompts(self, plan: Plan) -> None:
        """Spend the budget, a quantum a turn; waiting sequences are admitted when it is their turn."""
        waiting = self.waiting if len(self.running) < self.limits.max_sequences else []
        turns = Turns(self.shares, merge(self._unplanned(plan), waiting, key=_order))
        while plan.budget and turns:
            sequence = turns.next()
            if not sequence.blocks and self._must_wait(sequence):
                turns.leave(sequence)
            elif not sequence.blocks and not self._admit(sequence):
                turns = Turns(self.shares, self._unplanned(plan))  # what does not fit holds back those behind it
            elif not self._grant(plan, sequence):
                turns.leave(sequence)

    def _grant(self, plan: Plan, sequence: Sequence) -> bool:
        """Plan a quantum of the sequence, at its tenant's cost; whether there is more to compute of it."""
        left = plan.grant(sequence, QUANTUM)
        self.shares.charge(sequence, plan.end(sequence))
        return left

    def _unplanned(self, plan: Plan) -> list[Sequence]:
        return [sequence for sequence in self.running if plan.end(sequence) < len(sequence.tokens)]

    def _admit_urgent(self) -> None:
        """One waiting sequence may take place and blocks of lower priorities. One a step: those pushed out for a
        second would mostly wait in vain, as its prompt has to wait for the budget."""
        turns = Turns(self.shares, takewhile(self._outranks_the_last, self.waiting))
        while turns and self._must_wait(turns.next()):
            turns.leave(turns.next())
        if turns:
            self._push_in(turns.next())

    def _outranks_the_last(self, sequence: Sequence) -> bool:
        return bool(self.running) and sequence.priority > self.running[-1].priority

    def _push_in(self, sequence: Sequence) -> None:
        """Admit it at the cost of the fewest lower running ones, last in order first, or not at all."""
        lower = [one for one in reversed(self.running) if one.priority < sequence.priority]
        shared = self.sharing.hold(sequence)
        for victims, available in enumerate(self.pool.gains(one.blocks for one in lower)):
            if self._fits(sequence, shared, available, len(self.running) - victims):
                for victim in lower[:victims]:
                    self._preempt(victim)
                self._admit(sequence)
                break
        self.pool.release(shared)

    def _fits(self, sequence: Sequence, shared: list[int], available: int, running: int) -> bool:
        """Whether it may run beside so many. One that was preempted comes back when these have room to grow."""
        growth = running if sequence.charged else 0
        missing = self.pool.blocks_for(len(sequence.tokens)) - len(shared)
        return running < self.limits.max_sequences and missing + growth <= available

    def replace(self, parent: Sequence, children: list[Sequence]) -> list[tuple[int, int]]:
        """`children`, each one token longer, go on in place of a computed sequence; those without room wait.

        The first takes over the blocks, the others share the full ones and each want a copy of the last: returns
        (block, block of the copy), to be copied before the next pass.
        """
        if parent not in self.running or not children:
            self.remove(parent)
            for child in children:
                insort(self.waiting, child, key=_order)
            return []
        heir, *others = children
        heir.blocks, heir.computed, parent.blocks = parent.blocks, parent.computed, []
        self.remove(parent)
        insort(self.running, heir, key=_order)
        return [pair for child in others for pair in self._branch(heir, child)]

    def _branch(self, heir: Sequence, child: Sequence) -> list[tuple[int, int]]:
        """Start `child` on what `heir` has computed, if there is a place and a block."""
        full, partial = divmod(heir.computed, self.pool.block_size)
        shared, missing = heir.blocks[:full], int(partial > 0)
        if len(self.running) >= self.limits.max_sequences or missing > self.pool.available:
            insort(self.waiting, child, key=_order)
            return []
        self.pool.share(shared)
        own = self.pool.allocate(missing)
        child.blocks, child.computed = shared + own, heir.computed
        insort(self.running, child, key=_order)
        return list(zip(heir.blocks[full:], own, strict=True))

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
        self.sharing.release(sequence)
        insort(self.waiting, sequence, key=_order)

    def _must_wait(self, sequence: Sequence) -> bool:
        """Whether another computes what it needs; not for one that may itself have to wait for it."""
        if sequence.awaits_beams:
            return True
        if sequence.scores_prompt or sequence.awaits_scores:
            return sequence.awaits_scores
        leader = self.sharing.leader(sequence)
        return leader is not None and leader.priority >= sequence.priority

    def _admit(self, sequence: Sequence) -> bool:
        """Move from waiting to running if there is a place and the blocks of all its tokens can be had."""
        shared = self.sharing.hold(sequence)
        if not self._fits(sequence, shared, self.pool.available, len(self.running)):
            self.pool.release(shared)
            return False
        missing = self.pool.blocks_for(len(sequence.tokens)) - len(shared)
        self._start(sequence, shared + self.pool.allocate(missing), len(shared) * self.pool.block_size)
        return True

    def _start(self, sequence: Sequence, blocks: list[int], cached: int) -> None:
        self.waiting.remove(sequence)
        insort(self.running, sequence, key=_order)
        sequence.blocks, sequence.computed = blocks, cached
        if sequence.started is None:
            sequence.cached_tokens = min(cached, len(sequence.request.prompt))
        self.shares.admit(sequence, cached)
        self.sharing.announce(sequence)

    def check_integrity(self) -> None:
        """AssertionError unless queues are disjoint and ordered and every block is accounted for."""
        everyone = [id(sequence) for sequence in self.sequences()]
        assert len(set(everyone)) == len(everyone), "a sequence is queued twice"
        assert all(queue == sorted(queue, key=_order) for queue in (self.waiting, self.running))
        assert not any(sequence.blocks for sequence in self.waiting), "a waiting sequence holds blocks"
        self.sharing.check_integrity(self.running)
        self.pool.check_integrity([sequence.blocks for sequence in self.running])


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order
