"""A request's tokens do not depend on its neighbours, its arrival, preemption, chunking or the prefix cache."""

import random

import pytest
import torch

from services.generation.engine.request import SamplingParams, Sequence
from services.generation.models.causal_lm import CausalLM
from tests.engine.tiny import VOCAB, Int8, Result, make_engine, run, sequence, tiny_model

WARM = SamplingParams(temperature=1.0, top_p=0.9)


def workload(count: int, seed: int = 1) -> list[Sequence]:
    """Greedy and seeded sequences of mixed lengths, some with a common beginning."""
    draw = random.Random(seed)
    common = [draw.randrange(VOCAB) for _ in range(70)]
    prompts = [
        common[: draw.choice((0, 33, 70))] + [draw.randrange(VOCAB) for _ in range(draw.randint(1, 90))]
        for _ in range(count)
    ]
    return [
        sequence(prompt, WARM if place % 2 else SamplingParams(), seed=place, max_tokens=draw.randint(1, 40))
        for place, prompt in enumerate(prompts)
    ]


def alone(model: CausalLM | Int8, count: int) -> list[Result]:
    return [run(make_engine(model), [one])[0] for one in workload(count)]


def same(left: list[Result], right: list[Result]) -> bool:
    """Tokens, text and every bit of the log probabilities."""
    return [(r.tokens, r.text, r.logprob) for r in left] == [(r.tokens, r.text, r.logprob) for r in right]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [8, 32])
def test_batched_equals_single_bit_for_bit(model: CausalLM | Int8, batch: int, threads: int) -> None:
    expected = alone(model, batch)
    torch.set_num_threads(threads)
    try:
        together = run(make_engine(model, num_blocks=600), workload(batch))
    finally:
        torch.set_num_threads(1)
    assert same(expected, together)
    assert len({tuple(result.tokens) for result in expected}) > batch // 2  # the texts do differ


@pytest.mark.parametrize("max_batch_tokens", [1, 7, 64])
def test_chunked_prefill_changes_nothing(model: CausalLM | Int8, max_batch_tokens: int) -> None:
    engine = make_engine(model, num_blocks=600, max_batch_tokens=max_batch_tokens)
    assert same(alone(model, 6), run(engine, workload(6)))


def test_preempted_equals_not_preempted(model: CausalLM | Int8) -> None:
    engine = make_engine(model, num_blocks=24)
    assert same(alone(model, 12), run(engine, workload(12)))
    assert engine.scheduler.preemptions > 0


def test_prefix_cache_changes_nothing(model: CausalLM | Int8) -> None:
    engine = make_engine(model, num_blocks=600)
    first, second = run(engine, workload(8)), run(engine, again := workload(8))
    assert same(first, second)
    assert any(one.cached_tokens >= 16 for one in again)


def test_random_arrivals_and_aborts(model: CausalLM | Int8) -> None:
    expected = alone(model, 16)
    engine = make_engine(model, num_blocks=60, max_batch_tokens=40, max_sequences=6)
    draw, todo = random.Random(3), list(enumerate(workload(16)))
    results = {place: Result() for place, _ in todo}
    by_id = {id(one): place for place, one in todo}
    aborted: set[int] = set()
    alive: list[tuple[int, Sequence]] = []
    while todo or engine.busy:
        if todo and draw.random() < 0.4:
            alive.append(todo.pop())
            engine.add([alive[-1][1]])
        if alive and draw.random() < 0.03:
            place, victim = alive.pop(draw.randrange(len(alive)))
            engine.abort(victim.request)
            aborted.add(place)
        for delta in engine.step():
            results[by_id[id(delta.sequence)]].take(delta)
        engine.scheduler.check_integrity()
    kept = [place for place in results if place not in aborted]
    assert aborted and same([expected[place] for place in kept], [results[place] for place in kept])
    assert engine.scheduler.pool.available == engine.scheduler.pool.usable


def test_equal_prompts_that_arrive_together_are_computed_once(model: CausalLM | Int8) -> None:
    prompt = list(range(100))
    engine = make_engine(model, max_batch_tokens=512)
    run(engine, [sequence(prompt, max_tokens=1) for _ in range(10)])
    assert engine.computed_tokens < 100 + 10 * 16


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_other_architectures_are_as_independent(architecture: str) -> None:
    other = tiny_model(architecture=architecture)
    assert same(alone(other, 8), run(make_engine(other), workload(8)))
