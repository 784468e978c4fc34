"""The scheduler alone: budgets, order, sharing, preemption, and its accounts over random lives."""

import random
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation.engine.blocks import BlockPool
from services.generation.engine.request import Sequence
from services.generation.engine.scheduler import Limits, Scheduler
from services.generation.engine.step import Step
from tests.unit.generation.fakes import one, siblings


def make(num_blocks: int = 100, block_size: int = 4, **limits: int) -> Scheduler:
    return Scheduler(BlockPool(num_blocks, block_size), Limits(**limits))


def compute(scheduler: Scheduler, step: Step, token: int = 7) -> list[Sequence]:
    """Pretend the pass ran; returns the sequences that got a token."""
    for chunk in step.chunks:
        scheduler.sharing.publish(chunk.sequence, chunk.certain)
        if chunk.completes:
            chunk.sequence.append(token)
    scheduler.check_integrity()
    return [chunk.sequence for chunk in step.chunks if chunk.sequence.pending == 1]


def shape(step: Step) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.count) for chunk in step.chunks]


def test_long_prompts_are_computed_in_chunks_beside_decodes() -> None:
    scheduler = make(max_batch_tokens=8)
    scheduler.add([one([1, 2, 3])])
    compute(scheduler, scheduler.schedule())
    scheduler.add([one(list(range(20)))])
    for decode, prompt in (((3, 1), (0, 8)), ((4, 1), (8, 8)), ((5, 1), (16, 4))):
        step = scheduler.schedule()
        assert shape(step) == [decode, prompt]
        compute(scheduler, step)


def test_decodes_never_wait_for_a_prompt_that_takes_the_budget() -> None:
    scheduler = make(max_batch_tokens=4)
    scheduler.add([one(list(range(30)), priority=5)])
    compute(scheduler, scheduler.schedule())
    scheduler.add([quick := one([1])])
    step = scheduler.schedule()
    compute(scheduler, step)
    assert shape(step) == [(4, 4)]
    while quick.pending != 1 or not quick.computed:
        compute(scheduler, scheduler.schedule())
    scheduler.add([one(list(range(40, 80)), priority=9)])
    assert any(chunk.sequence is quick for chunk in scheduler.schedule().chunks)


def test_higher_priority_is_admitted_first_then_arrival() -> None:
    scheduler = make(max_sequences=1)
    order = [one([1], priority=0), one([2], priority=0), one([3], priority=9)]
    for sequence in order:
        scheduler.add([sequence])
    seen = []
    while scheduler.waiting or scheduler.running:
        (chunk,) = scheduler.schedule().chunks
        seen.append(chunk.sequence)
        scheduler.remove(chunk.sequence)
    assert seen == [order[2], order[0], order[1]]


def test_at_most_max_sequences_run() -> None:
    scheduler = make(max_sequences=3)
    for _ in range(5):
        scheduler.add([one([1, 2])])
    assert len(scheduler.schedule().chunks) == 3


def test_without_room_the_last_in_order_is_preempted_and_comes_back() -> None:
    scheduler = make(num_blocks=5, block_size=4)  # four usable
    first, second = one([1] * 7), one([2] * 7, priority=-1)
    for sequence in (first, second):
        scheduler.add([sequence])
    for _ in range(2):
        compute(scheduler, scheduler.schedule())
    assert scheduler.running == [first, second] and scheduler.pool.available == 0
    compute(scheduler, scheduler.schedule())
    assert scheduler.running == [first] and scheduler.waiting == [second] and scheduler.preemptions == 1
    assert second.computed == 0 and second.blocks == []
    scheduler.remove(first)
    (chunk,) = scheduler.schedule().chunks
    assert chunk.sequence is second and chunk.end == len(second.tokens)


def test_what_does_not_fit_holds_back_those_behind_it() -> None:
    scheduler = make(num_blocks=5, block_size=4)
    scheduler.add([one([1] * 8)])
    compute(scheduler, scheduler.schedule())
    scheduler.add([one([2] * 12)])
    scheduler.add([small := one([3])])
    assert all(chunk.sequence is not small for chunk in scheduler.schedule().chunks)


def test_a_finished_prompt_is_found_again_but_for_its_last_token() -> None:
    scheduler = make()
    scheduler.add([first := one(list(range(12)))])
    compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    scheduler.add([again := one(list(range(12)))])
    assert shape(scheduler.schedule()) == [(8, 4)]
    assert again.cached_tokens == 8


def test_another_salt_finds_nothing() -> None:
    scheduler = make()
    scheduler.add([one(list(range(12)))])
    compute(scheduler, scheduler.schedule())
    scheduler.add([other := one(list(range(12)), salt=b"other")])
    scheduler.schedule()
    assert other.cached_tokens == 0


def test_equal_prompts_wait_for_the_one_that_computes_them() -> None:
    scheduler = make(max_batch_tokens=8)
    for sequence in siblings(list(range(18)), 2):
        scheduler.add([sequence])
    steps = []
    for _ in range(3):
        step = scheduler.schedule()
        steps.append(shape(step))
        compute(scheduler, step)
    assert steps[0] == [(0, 8)]
    assert sum(count for step in steps for _, count in step) <= 18 + 2 + 3
    assert scheduler.running[1].cached_tokens == 16


def test_a_follower_goes_on_when_its_leader_is_gone() -> None:
    scheduler = make(max_batch_tokens=8)
    leader, follower = siblings(list(range(18)), 2)
    scheduler.add([leader])
    scheduler.add([follower])
    compute(scheduler, scheduler.schedule())
    scheduler.remove(leader)
    assert shape(scheduler.schedule()) == [(8, 8)]


def test_siblings_wait_until_the_prompt_is_scored() -> None:
    scheduler = make()
    sequences = siblings([1, 2, 3], 3, prompt_logprobs=0)
    scheduler.add(sequences)
    assert [chunk.sequence for chunk in scheduler.schedule().chunks] == sequences[:1]


def test_the_next_sibling_scores_the_prompt_when_the_first_is_gone() -> None:
    scheduler = make()
    first, second, third = siblings([1, 2, 3], 3, prompt_logprobs=0)
    scheduler.add([first, second, third])
    scheduler.schedule()
    scheduler.remove(first)
    assert [chunk.sequence for chunk in scheduler.schedule().chunks] == [second]
    assert second.scores_prompt and third.awaits_scores


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 40), st.integers(1, 40), st.integers(1, 8))
def test_random_lives_keep_the_accounts(seed: int, blocks: int, budget: int, running: int) -> None:
    draw = random.Random(seed)
    scheduler = make(blocks, 4, max_batch_tokens=budget, max_sequences=running)
    room = scheduler.pool.usable * 4
    goals: dict[int, int] = {}
    arrivals = 25
    for _ in range(3000):
        if arrivals and draw.random() < 0.3:
            arrivals -= 1
            prompt = [draw.randrange(2) for _ in range(draw.randint(1, min(24, room - 1)))]
            family = siblings(prompt, draw.randint(1, 3), priority=draw.randint(-1, 1))
            goals |= {id(s): min(len(prompt) + draw.randint(1, 12), room) for s in family}
            scheduler.add(family)
        if scheduler.running and draw.random() < 0.02:
            scheduler.remove(draw.choice(list(scheduler.sequences())))
        step = scheduler.schedule()
        assert step.chunks or not (scheduler.waiting or scheduler.running), "work waits and nothing runs"
        for sequence in compute(scheduler, step, draw.randrange(2)):
            if len(sequence.tokens) >= goals[id(sequence)]:
                scheduler.remove(sequence)
        scheduler.check_integrity()
        if not arrivals and not scheduler.waiting and not scheduler.running:
            break
    assert not scheduler.waiting and not scheduler.running, "not everything came to an end"
    assert scheduler.pool.available == scheduler.pool.usable


def test_policy_runs_without_torch() -> None:
    names = (
        "scheduler, fairness, plan, deadlines, blocks, request, step, prefix, stops, output, advance, bad_words, "
        "beams"
    )
    code = f"import sys; from services.generation.engine import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
