"""Constraints in the engine: every whole text fits, whatever else runs, however it is computed."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLParserLimits

from services.generation import lark
from services.generation.engine.constraint import Constraint, Grammar
from services.generation.engine.output import FinishReason
from services.generation.engine.request import SamplingParams, Sequence
from services.generation.grammars import spelt
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import InvalidInput
from tests.engine.test_batching import same
from tests.engine.tiny import VOCAB, Int8, collect, make_engine, run, sequence

END = 0
SPELLINGS = [bytes([token]) for token in range(VOCAB)]
TOKENIZER = spelt(SPELLINGS, frozenset({END}))
WARM = SamplingParams(temperature=1.5)
LIST = r"\[[0-9]{1,3}(, [0-9]{1,3}){2,8}\]"
MANY_STATES = "[ab]*a[ab]{30}"  # a state of the lexer for every text
PATTERNS = (LIST, "(yes|no|maybe)( indeed)?", "[a-f]{3,30}", "a{5}b+c")


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Bounds what a lexer may remember."""

    def bound(count: int) -> None:
        tight = LLParserLimits(max_lexer_states=count, verbose_errors=False)
        monkeypatch.setattr("services.generation.engine.constraint.LIMITS", tight)

    return bound


def grammar(pattern: str, kind: str = "regex") -> Grammar:
    return Grammar(f"constraint.{kind}", lark.grammar(kind, pattern, False), TOKENIZER, SPELLINGS)


def held(
    found: Grammar, sampling: SamplingParams = WARM, *, seed: int = 0, ends: bool = True, **rules: object
) -> Sequence:
    """A sequence that keeps to `found`; it may end by the end token unless that is ignored."""
    eos = frozenset({END}) if ends else frozenset()
    made = sequence(range(9), sampling, seed=seed, **{"max_tokens": 60, "eos_token_ids": eos, **rules})
    made.constraint = Constraint(found, eos)
    return made


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sampling", [SamplingParams(), WARM], ids=["greedy", "drawn"])
def test_every_whole_text_fits(model: CausalLM | Int8, pattern: str, sampling: SamplingParams) -> None:
    sequences = [held(grammar(pattern), sampling, seed=seed, ends=seed % 2 == 0) for seed in range(6)]
    for one, result in zip(sequences, run(make_engine(model), sequences), strict=True):
        if one.finish is FinishReason.LENGTH:
            assert len(result.tokens) == 60
        else:
            assert re.fullmatch(pattern, result.text)


def test_a_text_that_cannot_go_on_ends_without_an_end_token(model: CausalLM | Int8) -> None:
    one = held(grammar("abc"), ends=False, min_tokens=20)
    (result,) = run(make_engine(model), [one])
    assert (result.text, one.finish, one.stop_match) == ("abc", FinishReason.STOP, None)


def test_a_text_that_may_go_on_ends_by_the_end_token_or_not_at_all(model: CausalLM | Int8) -> None:
    likely = SamplingParams(logit_bias={END: 50.0})
    ending, ignoring, waiting = (
        held(grammar("a+"), likely),
        held(grammar("a+"), likely, ends=False),
        held(grammar("a+"), likely, min_tokens=7),
    )
    ended, whole, late = run(make_engine(model), [ending, ignoring, waiting])
    assert (ended.tokens, ended.text, ending.finish) == ([ord("a"), END], "a", FinishReason.EOS)
    assert (whole.text, ignoring.finish) == ("a" * 60, FinishReason.LENGTH)
    assert (late.text, waiting.finish) == ("a" * 7, FinishReason.EOS)


def test_company_preemption_and_chunks_change_no_bit(model: CausalLM | Int8) -> None:
    def workload() -> list[Sequence]:
        shared = grammar(LIST)
        return [held(shared, WARM if seed % 2 else SamplingParams(), seed=seed) for seed in range(8)]

    alone = [run(make_engine(model), [one])[0] for one in workload()]
    assert same(run(make_engine(model), workload()), alone)
    crowded = make_engine(model, num_blocks=9, max_batch_tokens=5)
    assert same(run(crowded, workload()), alone)
    assert crowded.scheduler.preemptions


def test_drafts_change_no_bit(model: CausalLM | Int8) -> None:
    def workload() -> list[Sequence]:
        return [
            held(grammar("(ab, )+c"), SamplingParams(), max_tokens=80),
            held(grammar("(0, 1, )+"), max_tokens=80),
        ]

    plain, quick = make_engine(model, speculation=False), make_engine(model)
    assert same(run(plain, workload()), run(quick, workload()))
    assert quick.accepted and quick.steps < plain.steps


def test_continuations_of_one_request_and_beams_each_keep_to_it(model: CausalLM | Int8) -> None:
    engine, found = make_engine(model), grammar(LIST)
    for params in (WARM, SamplingParams(num_beams=4)):
        first = held(found, params)
        others = [Sequence(first.request, index, sequence([1]).text) for index in (1, 2)]
        for other in others:
            other.constraint = Constraint(found, frozenset({END}))
        engine.add([first, *others])
        texts = [result.text for result in collect(engine, [first, *others])]
        assert len(set(texts)) == 3 and all(re.fullmatch(LIST, text) for text in texts)


def test_what_leaves_no_token_ends_its_sequence_alone(model: CausalLM | Int8) -> None:
    good, bad = held(grammar("[a-f]{3}")), held(grammar("[a-f]{3}"), SamplingParams(allowed_token_ids=(ord("z"),)))
    fine, refused = run(make_engine(model), [good, bad])
    assert re.fullmatch("[a-f]{3}", fine.text)
    (delta,) = refused.deltas
    assert isinstance(delta.error, InvalidInput) and "constraint" in delta.error.message


def test_a_limit_crossed_ends_its_sequence_alone(model: CausalLM | Int8, states: Callable[[int], None]) -> None:
    states(80)
    good, bad = held(grammar("[a-f]{9}")), held(grammar(MANY_STATES), max_tokens=200, ends=False)
    fine, refused = run(make_engine(model), [good, bad])
    assert re.fullmatch("[a-f]{9}", fine.text)
    error = refused.deltas[-1].error
    assert isinstance(error, InvalidInput) and error.message.startswith("constraint.regex: lexer error")


def test_log_probabilities_stay_the_models_own(model: CausalLM | Int8) -> None:
    free = sequence(range(9), SamplingParams(), logprobs=VOCAB)
    (plain,) = run(make_engine(model), [free])
    one = held(grammar("[xyz]"), SamplingParams())
    one.request = sequence(range(9), SamplingParams(), logprobs=1).request
    (result,) = run(make_engine(model), [one])
    table = {entry.token_id: entry.logprob for entry in plain.deltas[0].logprobs[0].top}
    assert result.tokens[0] in map(ord, "xyz") and result.logprob == pytest.approx(
        table[result.tokens[0]], abs=1e-6
    )
    assert result.deltas[0].logprobs[0].top[0].token_id == plain.tokens[0]


def test_a_worn_lexer_changes_no_text(states: Callable[[int], None]) -> None:
    """What a grammar's other texts left behind shall not decide how this one ends."""

    def walked(constraint: Constraint, seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        for _ in range(12):
            constraint.take(int(rng.choice(np.flatnonzero(constraint.mask() == 0))))
        return constraint._taken

    states(80)
    shared = grammar(MANY_STATES)
    assert [walked(Constraint(shared), seed) for seed in range(12)] == [
        walked(Constraint(grammar(MANY_STATES)), seed) for seed in range(12)
    ]
    assert shared.worn


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*PATTERNS, r"(\w+ ?){2,5}", '"[^"]*"']), st.integers(0, 2**32), st.integers(0, 12))
def test_one_token_is_allowed_where_the_mask_says_so(pattern: str, seed: int, length: int) -> None:
    rng, one = np.random.default_rng(seed), Constraint(grammar(pattern), frozenset({END}))
    for _ in range(length):
        choices = np.flatnonzero(one.mask()[1:] == 0) + 1
        if not len(choices):
            break
        one.take(int(rng.choice(choices)))
    mask = one.fork().mask()
    assert [one.allows(token) for token in range(VOCAB)] == (mask == 0).tolist()


def test_a_fork_goes_its_own_way() -> None:
    one = Constraint(grammar("ab|ac"))
    one.take(ord("a"))
    other = one.fork()
    other.take(ord("b"))
    assert other.finished and not one.finished and one.allows(ord("c"))
