"""A scheduler at work without a model, for the tests of who is served when."""

from collections import Counter

from services.generation.engine.blocks import BlockPool
from services.generation.engine.fairness import INPUT_WEIGHT, OUTPUT_WEIGHT
from services.generation.engine.request import Sequence
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.engine.step import Step
from tests.unit.generation.fakes import siblings


class World:
    """A scheduler whose passes only pretend; each sequence says so many tokens and ends."""

    def __init__(self, num_blocks: int = 2000, **limits: float) -> None:
        self.scheduler = Scheduler(BlockPool(num_blocks, 4), Limits(**limits))
        self.goals: dict[Sequence, int] = {}
        self.ended: list[Sequence] = []
        self.paid: Counter[str] = Counter()  # weighted tokens computed for the first time, by tenant
        self.now = 0.0  # seconds: one a pass
        self._seen: Counter[Sequence] = Counter()
        self._fresh = 0

    def ask(self, tenant: str, prompt: int = 8, says: int = 4, priority: int = 0) -> Sequence:
        """A request whose prompt nobody shares."""
        return self.ask_all(1, tenant, prompt, says, priority)[0]

    def ask_all(
        self, count: int, tenant: str, prompt: int = 8, says: int = 4, priority: int = 0
    ) -> list[Sequence]:
        """The sequences of one."""
        self._fresh += 1
        asked = siblings([self._fresh, *range(prompt - 1)], count, tenant=tenant, priority=priority)
        self.goals.update(dict.fromkeys(asked, says))
        self.scheduler.add(asked)
        return asked

    def step(self) -> Step:
        self.now += 1
        self.scheduler.age(self.now)
        step = self.scheduler.schedule()
        for chunk in step.chunks:
            self._pay(chunk.sequence, chunk.certain)
            self.scheduler.sharing.publish(chunk.sequence, chunk.certain)
            if chunk.completes:
                chunk.sequence.append(7)
                self._end_if_done(chunk.sequence)
        self.scheduler.check_integrity()
        return step

    def _pay(self, sequence: Sequence, end: int) -> None:
        for place in range(self._seen[sequence], end):
            weight = INPUT_WEIGHT if place < len(sequence.request.prompt) else OUTPUT_WEIGHT
            self.paid[sequence.request.tenant] += weight
        self._seen[sequence] = max(self._seen[sequence], end)

    def _end_if_done(self, sequence: Sequence) -> None:
        if sequence.output_length >= self.goals[sequence]:
            self.scheduler.remove(sequence)
            self.ended.append(sequence)

    def finish(self) -> None:
        while self.scheduler.waiting or self.scheduler.running:
            assert self.step().chunks, "work waits and nothing runs"
