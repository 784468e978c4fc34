"""Drafts change how fast a text comes and nothing else."""

from collections.abc import Callable

import pytest

from services.generation.engine.request import SamplingParams, Sequence
from services.generation.models.causal_lm import CausalLM
from tests.engine.test_batching import same
from tests.engine.tiny import Foretold, Int8, make_engine, run, sequence

LOOP = [5, 6, 7, 8, 9]


def looping(sampling: SamplingParams = SamplingParams(), seed: int = 0, **rules: object) -> Sequence:
    """Only the loop's tokens may be chosen, each nearly always after the one before it in the loop."""
    return sequence(LOOP * 3, sampling, seed=seed, **rules)


def biased(temperature: float = 0.0) -> SamplingParams:
    """One token all the time, but for a draw that has it otherwise now and then."""
    return SamplingParams(temperature=temperature, logit_bias={7: 20.0}, allowed_token_ids=(5, 6, 7, 8, 9))


WORKLOADS: dict[str, Callable[[], list[Sequence]]] = {
    "greedy": lambda: [looping(max_tokens=60), sequence(range(40), max_tokens=60)],
    "certain": lambda: [looping(biased(), max_tokens=count) for count in (1, 2, 7, 60)],
    "drawn": lambda: [looping(biased(4.0), seed=seed, max_tokens=80) for seed in range(4)],
    "penalised": lambda: [
        looping(SamplingParams(logit_bias={7: 20.0}, frequency_penalty=0.7), max_tokens=80),
        looping(SamplingParams(temperature=2.0, logit_bias={7: 9.0}, presence_penalty=1.5), max_tokens=80),
    ],
    "stopped": lambda: [looping(biased(), max_tokens=60, stop=(chr(7) * 23,))],
    "ended": lambda: [looping(biased(), max_tokens=60, min_tokens=31, eos_token_ids=frozenset({7}))],
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_drafts_change_no_bit(model: CausalLM | Int8, name: str) -> None:
    plain, quick = make_engine(model, speculation=False), make_engine(model)
    expected, found = run(plain, WORKLOADS[name]()), run(quick, WORKLOADS[name]())
    assert same(expected, found)
    assert plain.drafted == 0
    assert name == "greedy" or quick.accepted > 0
    assert quick.steps <= plain.steps


def test_what_repeats_itself_takes_a_fraction_of_the_passes(model: CausalLM | Int8) -> None:
    engine = make_engine(model)
    (result,) = run(engine, [looping(biased(), max_tokens=120)])
    assert len(result.tokens) == 120
    assert engine.steps < 40
    assert engine.accepted > 80


def test_astray_drafts_leave_no_trace_in_the_prefix_cache(model: CausalLM | Int8) -> None:
    """Blocks that drafts were written to are named by what was chosen, so a later prompt finds the truth."""
    engine = make_engine(model)
    (told,) = run(engine, [looping(biased(4.0), seed=2, max_tokens=90)])
    assert 0 < engine.accepted < engine.drafted
    again = sequence([*LOOP * 3, *told.tokens, 11], max_tokens=30)
    (found,) = run(engine, [again])
    assert again.cached_tokens >= 96
    (expected,) = run(make_engine(model, speculation=False), [sequence(again.request.prompt, max_tokens=30)])
    assert same([expected], [found])


def test_drafts_take_what_blocks_are_left_and_preempt_nobody(model: CausalLM | Int8) -> None:
    engine = make_engine(model, num_blocks=13)
    together = [looping(biased(), max_tokens=70) for _ in range(2)]
    expected = run(make_engine(model, speculation=False), [looping(biased(), max_tokens=70) for _ in range(2)])
    assert same(expected, run(engine, together))
    assert engine.scheduler.preemptions == 0
    assert engine.accepted > 0


def test_no_draft_lies_beyond_the_context(model: CausalLM | Int8) -> None:
    prompt = LOOP * 100
    expected = run(make_engine(model, speculation=False), [sequence(prompt, biased(), max_tokens=50)])
    found = run(make_engine(model), [sequence(prompt, biased(), max_tokens=50)])
    assert same(expected, found)
    assert len(prompt) + len(found[0].tokens) == 512


def foretold(tokens: list[int]) -> Sequence:
    """A request and what its drafter says it will say."""
    one = sequence(range(30), SamplingParams(temperature=1.5), seed=4, max_tokens=100)
    one.drafter = Foretold(30, tokens)
    return one


def test_what_is_foretold_rightly_is_said_in_few_passes(model: CausalLM | Int8) -> None:
    (told,) = run(make_engine(model), [foretold([])])
    engine = make_engine(model)
    assert same([told], run(engine, [foretold(told.tokens[:70])]))
    assert engine.steps < 40


def test_what_is_foretold_wrongly_costs_only_time(model: CausalLM | Int8) -> None:
    (told,) = run(make_engine(model), [foretold([])])
    lies = [*told.tokens[:9], 1, 2, 3, *told.tokens[12:40], 4, 4, *told.tokens[42:]]
    assert same([told], run(make_engine(model), [foretold(lies)]))
