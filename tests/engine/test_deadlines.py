"""Deadlines by the engine's own clock: what cannot be met is refused before compute, and nothing else is."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import torch

from services.generation.engine.blocks import BlockPool
from services.generation.engine.engine import Engine
from services.generation.engine.request import Request, Sequence, Stopping
from services.generation.engine.row import Row
from services.generation.engine.runner import Computed
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.engine.step import Step
from services.runtime.errors import DeadlinePassed
from tests.engine.lives import Ledger
from tests.engine.tiny import Result, text_sink

PASS_S, ROW_S, BATCH = 0.010, 0.001, 100


@dataclass
class Machine:
    """A runner that takes its time by a clock of its own: PASS_S a pass and ROW_S a row, or `slow` times that."""

    now: float = 0.0
    slow: float = 1.0
    rows: dict[int, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        self._ledger = Ledger(500, 4, 8, self.rows)
        limits = Limits(max_batch_tokens=BATCH, max_sequences=8, speculation=False)
        self.engine = Engine(Scheduler(BlockPool(500, 4), limits), self, 1990, lambda: self.now)

    def run(self, step: Step) -> Computed:
        self.now += self.slow * (PASS_S + ROW_S * step.tokens)
        return self._ledger.run(step)

    def logits(self, computed: Computed, rows: list[int]) -> list[Row]:
        return self._ledger.logits(computed, rows)

    def close(self) -> None: ...

    def ask(self, prompt: Iterable[int], within_s: float | None, says: int = 1, at_least: int = 0) -> Sequence:
        rules = Stopping(max_tokens=says, min_tokens=at_least)
        deadline = None if within_s is None else self.now + within_s
        one = Sequence(Request(tuple(prompt), stopping=rules, deadline=deadline), 0, text_sink())
        self.engine.add([one])
        return one

    def finish(self) -> dict[Sequence, Result]:
        found: dict[Sequence, Result] = {}
        while self.engine.busy:
            for delta in self.engine.step():
                found.setdefault(delta.sequence, Result()).take(delta)
        return found

    def learn(self) -> None:
        """Passes of all sizes, so that it is known how fast they can be."""
        self.ask([7] * (3 * BATCH), None, says=40)
        self.finish()
        self.engine.scheduler.pool.forget()


def prompt(count: int, draw: random.Random = random.Random(1)) -> list[int]:
    return [draw.randrange(8) for _ in range(count)]


def refused(machine: Machine, one: Sequence) -> bool:
    error = machine.finish()[one].deltas[-1].error
    return isinstance(error, DeadlinePassed) and error.reason == "DEADLINE_TOO_SOON"


def test_what_would_take_far_longer_is_refused_before_any_pass() -> None:
    machine = Machine()
    machine.learn()
    steps = machine.engine.steps
    assert refused(machine, machine.ask(prompt(1000), within_s=0.3))
    assert machine.engine.steps == steps and machine.engine.skipped == 1


def test_tokens_that_must_be_chosen_count_too() -> None:
    machine = Machine()
    machine.learn()
    assert refused(machine, machine.ask(prompt(10), within_s=0.3, says=900, at_least=900))
    assert not refused(machine, machine.ask(prompt(10), within_s=0.3, says=900))


def test_nothing_is_refused_before_anything_is_known() -> None:
    machine = Machine()
    assert not refused(machine, machine.ask(prompt(1000), within_s=0.3))


def test_a_long_prompt_is_not_judged_by_short_ones() -> None:
    machine = Machine()
    for count in range(1, 50):
        machine.ask(prompt(count), None)
        machine.finish()
    assert not refused(machine, machine.ask(prompt(1000), within_s=0.6))


def test_a_prompt_in_the_cache_is_not_refused() -> None:
    machine = Machine()
    machine.learn()
    machine.ask(known := prompt(1000), None)
    machine.finish()
    one = machine.ask(known, within_s=0.3)
    (delta,) = machine.finish()[one].deltas
    assert delta.error is None


def test_a_prompt_that_another_computes_is_not_refused() -> None:
    machine = Machine()
    machine.learn()
    machine.ask(known := prompt(1000), None)
    for _ in range(9):
        machine.engine.step()
    follower = machine.ask(known, within_s=0.3)
    assert machine.finish()[follower].deltas[-1].error is None


@pytest.mark.parametrize("seed", range(3))
def test_whoever_could_have_finished_alone_is_never_refused(seed: int) -> None:
    """Even on a machine that was learnt while it was busy, by half."""
    draw, machine = random.Random(seed), Machine(slow=1.9)
    machine.learn()
    machine.slow = 1.0
    outcomes = {True: 0, False: 0}
    for _ in range(60):
        count, at_least = draw.randint(1, 1200), draw.choice((0, 0, 30))
        needed = -(-count // BATCH) * PASS_S + count * ROW_S + (max(at_least, 1) - 1) * (PASS_S + ROW_S)
        within = needed * draw.uniform(0.05, 1.5)
        one = machine.ask(prompt(count, draw), within, says=max(at_least, 1), at_least=at_least)
        machine.ask(prompt(300, draw), None)  # in its way, which is no reason
        was = refused(machine, one)
        assert not was or within < needed
        outcomes[was] += 1
        machine.engine.scheduler.pool.forget()
    assert min(outcomes.values()) > 5
