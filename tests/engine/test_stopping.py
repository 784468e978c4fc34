"""When sequences end, what their text and tokens are then, and what it costs."""

from collections.abc import Iterator

import pytest
import torch

from services.generation.engine.output import FinishReason, StopMatch
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import DeadlinePassed, InvalidInput
from tests.engine.tiny import CONTEXT, collect, make_engine, run, sequence, text_sink, tiny_model

PROMPT = [98, 107, 10, 66]


@pytest.fixture(scope="module")
def model() -> Iterator[CausalLM]:
    torch.set_num_threads(1)
    return tiny_model()


@pytest.fixture(scope="module")
def free(model: CausalLM) -> list[int]:
    """What the model says when nothing stops it; all different, so that stops are unambiguous."""
    tokens = run(make_engine(model), [sequence(PROMPT, max_tokens=12)])[0].tokens
    assert len(set(tokens)) == 12
    return tokens


def text(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def test_max_tokens(model: CausalLM, free: list[int]) -> None:
    one = sequence(PROMPT, max_tokens=5)
    (result,) = run(make_engine(model), [one])
    assert (result.tokens, one.finish, result.text) == (free[:5], FinishReason.LENGTH, text(free[:5]))
    assert [len(delta.token_ids) for delta in result.deltas] == [1] * 5


def test_the_context_ends_a_sequence(model: CausalLM) -> None:
    one = sequence([1] * (CONTEXT - 3), max_tokens=50)
    (result,) = run(make_engine(model), [one])
    assert len(result.tokens) == 3 and one.finish is FinishReason.LENGTH


def test_end_token(model: CausalLM, free: list[int]) -> None:
    one = sequence(PROMPT, eos_token_ids=frozenset([free[4]]))
    (result,) = run(make_engine(model), [one])
    assert (result.tokens, result.text, one.finish) == (free[:5], text(free[:4]), FinishReason.EOS)
    assert one.stop_match is None


@pytest.mark.parametrize("include", [False, True])
def test_stop_token(model: CausalLM, free: list[int], include: bool) -> None:
    one = sequence(PROMPT, stop_token_ids=frozenset([free[4]]), include_stop=include)
    (result,) = run(make_engine(model), [one])
    assert (result.tokens, result.text) == (free[:5], text(free[: 5 if include else 4]))
    assert (one.finish, one.stop_match) == (FinishReason.STOP, StopMatch(token_id=free[4]))


@pytest.mark.parametrize("include", [False, True])
def test_stop_string_over_token_boundaries(model: CausalLM, free: list[int], include: bool) -> None:
    stop = text(free[3:6])
    one = sequence(PROMPT, stop=("zzz", stop), include_stop=include)
    (result,) = run(make_engine(model), [one])
    assert (result.tokens, result.text) == (free[:6], text(free[: 6 if include else 3]))
    assert (one.finish, one.stop_match) == (FinishReason.STOP, StopMatch(text=stop))
    shown = [delta.text for delta in result.deltas]
    assert shown[3:5] == ["", ""]  # what may begin the stop is kept back


def test_what_was_kept_back_comes_at_the_end(model: CausalLM, free: list[int]) -> None:
    (result,) = run(make_engine(model), [sequence(PROMPT, max_tokens=5, stop=(text(free[3:6]),))])
    assert result.text == text(free[:5]) and result.deltas[-1].text == text(free[3:5])


def test_min_tokens_holds_off_ends(model: CausalLM, free: list[int]) -> None:
    ended = sequence(PROMPT, eos_token_ids=frozenset([free[2]]), min_tokens=6)
    (result,) = run(make_engine(model), [ended])
    assert free[2] not in result.tokens[:6] and len(result.tokens) >= 6
    (result,) = run(make_engine(model), [sequence(PROMPT, stop=(chr(free[2]),), min_tokens=3, max_tokens=8)])
    assert result.tokens == free[:8]


def test_nothing_to_generate_scores_the_prompt(model: CausalLM) -> None:
    request = Request(tuple(range(100)), stopping=Stopping(max_tokens=0), prompt_logprobs=2)
    engine = make_engine(model, max_batch_tokens=30)
    engine.add([one := Sequence(request, 0, text_sink())])
    (result,) = collect(engine, [one])
    with torch.no_grad():
        exact = model(torch.arange(100).unsqueeze(0))[0].log_softmax(-1)
    assert result.tokens == [] and sorted(request.prompt_scores) == list(range(1, 100))
    for place, found in request.prompt_scores.items():
        assert found.chosen.token_id == place
        assert found.chosen.logprob == pytest.approx(float(exact[place - 1, place]), abs=1e-4)
        assert found.top[0].token_id == int(exact[place - 1].argmax())


def test_prompt_scores_do_not_come_from_the_cache(model: CausalLM) -> None:
    engine = make_engine(model)
    run(engine, [sequence(range(64), max_tokens=1)])
    request = Request(tuple(range(64)), stopping=Stopping(max_tokens=2), prompt_logprobs=0)
    family = [Sequence(request, index, text_sink()) for index in range(3)]
    engine.add(family)
    results = collect(engine, family)
    assert len(request.prompt_scores) == 63
    assert results[0].tokens == results[1].tokens == results[2].tokens


def test_siblings_share_the_prompt_and_differ(model: CausalLM) -> None:
    engine = make_engine(model)
    warm = SamplingParams(temperature=1.5)
    request = Request(tuple(range(100)), warm, Stopping(max_tokens=6), seed=4)
    family = [Sequence(request, index, text_sink()) for index in range(8)]
    engine.add(family)
    engine.step()
    engine.step()
    assert len({sequence.blocks[5] for sequence in family}) == 1  # 96 of 100 tokens in common blocks
    results = collect(engine, family)
    assert len({tuple(result.tokens) for result in results}) == 8
    assert engine.computed_tokens < 100 + 8 * (4 + 6)
    alone = Sequence(request, 5, text_sink())
    (lone,) = run(make_engine(model), [alone])
    assert lone.tokens[-1:] == results[5].tokens[-1:]


def test_an_abort_frees_at_once_and_stops_the_steps(model: CausalLM) -> None:
    engine = make_engine(model)
    one = sequence(PROMPT, max_tokens=100)
    engine.add([one])
    for _ in range(3):
        engine.step()
    engine.abort(one.request)
    steps = engine.steps
    assert not engine.busy and engine.step() == [] and engine.steps == steps == 3
    assert engine.scheduler.pool.available == engine.scheduler.pool.usable


def test_the_deadline_ends_running_and_waiting_alike(model: CausalLM) -> None:
    now = 0.0
    engine = make_engine(model, max_sequences=1)
    engine._clock = lambda: now
    family = [Sequence(Request((1, 2), deadline=10.0), 0, text_sink()) for _ in range(2)]
    for one in family:
        engine.add([one])
    assert all(delta.error is None for delta in engine.step())
    now, steps = 10.0, engine.steps
    ended = engine.step()
    assert [type(delta.error) for delta in ended] == [DeadlinePassed] * 2
    assert not engine.busy and engine.steps == steps


def test_a_failed_step_ends_its_own_sequences_only(model: CausalLM) -> None:
    engine = make_engine(model, max_sequences=2)
    hit, waiting = [sequence(PROMPT), sequence(PROMPT)], sequence(PROMPT, max_tokens=3)
    for one in (*hit, waiting):
        engine.add([one])
    engine.step()
    runner, engine.runner = engine.runner, None
    with pytest.raises(AttributeError):
        engine.step()
    ended = engine.fail(error := RuntimeError("broken"))
    assert [(delta.sequence, delta.error) for delta in ended] == [(one, error) for one in hit]
    engine.runner = runner
    (result,) = collect(engine, [waiting])
    assert len(result.tokens) == 3


def test_a_refused_choice_ends_its_sequence_only(model: CausalLM, free: list[int]) -> None:
    engine = make_engine(model)
    bad = sequence(
        PROMPT, SamplingParams(logit_bias={}, allowed_token_ids=(3,)), eos_token_ids=frozenset([3]), min_tokens=2
    )
    good = sequence(PROMPT, max_tokens=4)
    results = run(engine, [bad, good])
    assert isinstance(results[0].deltas[-1].error, InvalidInput) and results[1].tokens == free[:4]


def test_log_probabilities_of_the_output(model: CausalLM, free: list[int]) -> None:
    (result,) = run(make_engine(model), [sequence(PROMPT, max_tokens=6, logprobs=3)])
    with torch.no_grad():
        exact = model(torch.tensor([PROMPT + free[:6]]))[0].log_softmax(-1)
    for step, delta in enumerate(result.deltas):
        (report,) = delta.logprobs
        row = exact[len(PROMPT) - 1 + step]
        assert report.chosen.token_id == free[step] and report.chosen.rank == 1 and len(report.top) == 3
        assert report.chosen.logprob == pytest.approx(float(row[free[step]]), abs=1e-4)
        assert delta.logprob == report.chosen.logprob
