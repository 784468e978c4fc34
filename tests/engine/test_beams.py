"""Beam search in the engine: what it finds, alone and in any company, and that it ends once and frees all."""

import random
from functools import partial
from itertools import product

import pytest
import torch

from services.generation.engine.bad_words import BadWords, Vocabulary
from services.generation.engine.engine import Engine
from services.generation.engine.output import FinishReason, StopMatch
from services.generation.engine.processors import edit
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.models.causal_lm import CausalLM
from services.runtime.errors import DeadlinePassed, InvalidInput
from tests.engine.test_batching import workload
from tests.engine.tiny import CONTEXT, VOCAB, Int8, Result, collect, make_engine, run, text_sink, tiny_model

PROMPT = [98, 107, 10, 66]
LETTERS = Vocabulary([chr(token).encode() for token in range(VOCAB)])


@pytest.fixture(scope="module")
def net() -> CausalLM:
    torch.set_num_threads(1)
    return tiny_model()


def outputs(
    prompt: list[int],
    sampling: SamplingParams,
    n: int = 1,
    *,
    stop: tuple[str, ...] = (),
    bad_words: tuple[bytes, ...] = (),
    logprobs: int | None = None,
    deadline: float | None = None,
    priority: int = 0,
    **stopping: object,
) -> list[Sequence]:
    """The sequences of one search."""
    rules = Stopping(**{"max_tokens": 12, **stopping})
    request = Request(
        tuple(prompt),
        sampling,
        rules,
        logprobs=logprobs,
        deadline=deadline,
        priority=priority,
        prompt_logprobs=None,
    )
    words = BadWords(bad_words, LETTERS)
    return [Sequence(request, index, text_sink(*stop, unchecked=rules.min_tokens), words) for index in range(n)]


def search(engine: Engine, family: list[Sequence]) -> list[Result]:
    engine.add(family)
    return collect(engine, family)


def shown(results: list[Result]) -> list[tuple[list[int], str, float]]:
    return [(result.tokens, result.text, result.logprob) for result in results]


def searches(count: int, seed: int = 5) -> list[list[Sequence]]:
    """Searches of many shapes, some with a common beginning, some that end early."""
    draw = random.Random(seed)
    common = [draw.randrange(VOCAB) for _ in range(40)]
    made = []
    for _ in range(count):
        beams = draw.choice((2, 3, 4, 6))
        prompt = common[: draw.choice((0, 20, 40))] + [draw.randrange(VOCAB) for _ in range(draw.randint(1, 50))]
        made.append(
            outputs(
                prompt,
                SamplingParams(
                    num_beams=beams,
                    length_penalty=draw.choice((0.0, 1.0, 2.0)),
                    repetition_penalty=draw.choice((1.0, 1.3)),
                ),
                draw.randint(1, beams),
                max_tokens=draw.randint(1, 25),
                eos_token_ids=frozenset(draw.sample(range(VOCAB), 12)),
                stop=draw.choice(((), ("a", "bc"))),
                priority=draw.randint(-1, 1),
            )
        )
    return made


def alone(model: CausalLM | Int8, families: list[list[Sequence]]) -> list[list[tuple[list[int], str, float]]]:
    return [shown(search(make_engine(model), family)) for family in families]


def mixed(engine: Engine, families: list[list[Sequence]], others: list[Sequence]) -> list[list[Result]]:
    """All at once, in company."""
    engine.add(others[:1])
    for family, other in zip(families, others[1:], strict=False):
        engine.add(family)
        engine.add([other])
    everyone = [one for family in families for one in family]
    results = dict(zip(map(id, everyone), collect(engine, everyone + others), strict=False))
    return [[results[id(one)] for one in family] for family in families]


@pytest.mark.parametrize(
    "limits",
    [
        {"num_blocks": 600},
        {"num_blocks": 600, "max_batch_tokens": 7},
        {"num_blocks": 34},
        {"num_blocks": 600, "max_sequences": 3},
    ],
    ids=["room for all", "small chunks", "few blocks", "few places"],
)
def test_a_search_finds_the_same_in_any_company(model: CausalLM | Int8, limits: dict[str, int]) -> None:
    expected = alone(model, searches(6))
    engine = make_engine(model, **limits)
    together = mixed(engine, searches(6), workload(7))
    assert [shown(family) for family in together] == expected
    assert limits["num_blocks"] > 100 or engine.scheduler.preemptions > 0
    assert engine.scheduler.pool.available == engine.scheduler.pool.usable


@pytest.mark.parametrize("blocks", [4, 5, 9])
def test_beams_that_do_not_fit_together_are_computed_one_after_the_other(
    model: CausalLM | Int8, blocks: int
) -> None:
    sampling = SamplingParams(num_beams=6)
    expected = shown(search(make_engine(model), outputs(PROMPT * 5, sampling, 6, max_tokens=20)))
    engine = make_engine(model, num_blocks=blocks)
    assert shown(search(engine, outputs(PROMPT * 5, sampling, 6, max_tokens=20))) == expected
    assert engine.scheduler.preemptions > 0


def test_neighbours_of_a_search_are_as_independent(model: CausalLM | Int8) -> None:
    expected = [run(make_engine(model), [one])[0].tokens for one in workload(7)]
    engine = make_engine(model, num_blocks=60)
    others = workload(7)
    for family, other in zip(searches(7), others, strict=True):
        engine.add(family)
        engine.add([other])
    everyone = list(others)
    results = {id(one): Result() for one in everyone}
    while engine.busy:
        for delta in engine.step():
            if id(delta.sequence) in results:
                results[id(delta.sequence)].take(delta)
        engine.scheduler.check_integrity()
    assert [results[id(one)].tokens for one in others] == expected


def test_a_fork_computes_nothing_again(model: CausalLM | Int8) -> None:
    engine = make_engine(model)
    family = outputs(list(range(50)), SamplingParams(num_beams=5), 5, max_tokens=20)
    search(engine, family)
    assert engine.computed_tokens == 50 + 5 * 19
    assert engine.steps == 20


def test_beams_share_full_blocks(net: CausalLM) -> None:
    engine = make_engine(net)
    engine.add(outputs(list(range(50)), SamplingParams(num_beams=5), max_tokens=20))
    engine.step()
    beams = engine.scheduler.running
    assert len(beams) == 5 and len({tuple(one.blocks[:3]) for one in beams}) == 1
    assert len({one.blocks[3] for one in beams}) == 5
    assert engine.scheduler.pool.usable - engine.scheduler.pool.available == 3 + 5


def test_beams_as_wide_as_the_space_find_the_best_of_all(net: CausalLM) -> None:
    allowed = (3, 50, 77, 101)
    params = SamplingParams(num_beams=64, allowed_token_ids=allowed)
    results = search(make_engine(net), outputs(PROMPT, params, 64, max_tokens=3))
    scores = {tokens: exact(net, list(tokens), params) for tokens in product(allowed, repeat=3)}
    assert [tuple(result.tokens) for result in results] == sorted(scores, key=lambda key: -scores[key])


def exact(net: CausalLM, tokens: list[int], params: SamplingParams) -> float:
    one, total = outputs(PROMPT, params)[0], 0.0
    for token in tokens:
        total += float(scores_after(net, one)[token])
        one.append(token)
    return total


def scores_after(net: CausalLM, one: Sequence) -> torch.Tensor:
    with torch.no_grad():
        return edit(net(torch.tensor([one.tokens]))[0, -1], one).log_softmax(-1)


CHANGES = [
    {"sampling": SamplingParams(num_beams=3, repetition_penalty=2.0)},
    {"sampling": SamplingParams(num_beams=3, frequency_penalty=1.5, presence_penalty=1.0)},
    {"sampling": SamplingParams(num_beams=3, logit_bias={40: 6.0, 41: 6.0, 42: 5.5})},
    {"sampling": SamplingParams(num_beams=3, allowed_token_ids=tuple(range(97, 105)))},
    {"sampling": SamplingParams(num_beams=3), "bad_words": (b"OC", b"uD", b"h")},
    {
        "sampling": SamplingParams(num_beams=3, allowed_token_ids=tuple(range(97, 105))),
        "bad_words": (b"aa", b"ge", b"gg", b"cc", b"ca"),
    },
]


@pytest.mark.parametrize("change", CHANGES, ids=["repetition", "counts", "bias", "allowed", "bad words", "both"])
def test_what_changes_a_lone_sequence_changes_each_beam(net: CausalLM, change: dict[str, object]) -> None:
    """Against a plain search that computes every prefix from its start."""
    live = [(0.0, outputs(PROMPT, **change)[0])]
    for _ in range(8):
        grown = []
        for score, one in live:
            values, ids = scores_after(net, one).topk(3)
            for value, token in zip(values.tolist(), ids.tolist(), strict=True):
                child = one.fork()
                child.append(token)
                grown.append((score + value, child))
        live = sorted(grown, key=lambda each: -each[0])[:3]
    results = search(make_engine(net), outputs(PROMPT, n=3, max_tokens=8, **change))
    assert [result.tokens for result in results] == [one.tokens[len(PROMPT) :] for _, one in live]
    plain = search(make_engine(net), outputs(PROMPT, SamplingParams(num_beams=3), 3, max_tokens=8))
    assert plain[0].tokens != results[0].tokens


@pytest.mark.parametrize("kind", ["string", "token", "end"])
def test_stops_end_beams_and_are_told(net: CausalLM, kind: str) -> None:
    sampling = SamplingParams(num_beams=4)
    (free,) = search(make_engine(net), outputs(PROMPT, sampling))
    token = free.tokens[4]
    rule: dict[str, object] = {
        "string": {"stop": (chr(free.tokens[3]) + chr(token),)},
        "token": {"stop_token_ids": frozenset([token])},
        "end": {"eos_token_ids": frozenset([token])},
    }[kind]
    family = outputs(PROMPT, SamplingParams(num_beams=4, length_penalty=0.0), 4, **rule)
    results = search(make_engine(net), family)
    ended = [(one, result) for one, result in zip(family, results, strict=True) if result.tokens[-1] == token]
    assert ended
    one, result = ended[0]
    text = "".join(map(chr, result.tokens))
    expected = {
        "string": (FinishReason.STOP, StopMatch(text=text[-2:]), text[:-2]),
        "token": (FinishReason.STOP, StopMatch(token_id=token), text[:-1]),
        "end": (FinishReason.EOS, None, text[:-1]),
    }[kind]
    assert (one.finish, one.stop_match, result.text) == expected


def test_min_tokens_holds_off_ends_in_every_beam(net: CausalLM) -> None:
    ends = frozenset(range(0, VOCAB, 2))
    family = outputs(PROMPT, SamplingParams(num_beams=4), 4, min_tokens=5, eos_token_ids=ends)
    for result in search(make_engine(net), family):
        assert len(result.tokens) > 5 and not ends & set(result.tokens[:5])
    early = search(make_engine(net), outputs(PROMPT, SamplingParams(num_beams=4), 4, eos_token_ids=ends))
    assert any(len(result.tokens) <= 5 for result in early)


def test_the_length_penalty_decides_between_short_and_long(net: CausalLM) -> None:
    def length(penalty: float) -> int:
        ends = frozenset(range(0, VOCAB, 3))
        sampling = SamplingParams(num_beams=4, length_penalty=penalty)
        return len(
            search(make_engine(net), outputs(PROMPT, sampling, max_tokens=30, eos_token_ids=ends))[0].tokens
        )

    assert length(-2.0) < length(4.0)


def test_the_context_ends_a_search(net: CausalLM) -> None:
    family = outputs([1] * (CONTEXT - 3), SamplingParams(num_beams=3), 2, max_tokens=50)
    results = search(make_engine(net), family)
    assert [len(result.tokens) for result in results] == [3, 3]
    assert {one.finish for one in family} == {FinishReason.LENGTH}


def test_log_probabilities_are_the_models_own(net: CausalLM) -> None:
    sampling = SamplingParams(num_beams=3, logit_bias={40: 8.0})
    family = outputs(PROMPT, sampling, 2, logprobs=4, max_tokens=6)
    for result in search(make_engine(net), family):
        (delta,) = result.deltas
        with torch.no_grad():
            rows = net(torch.tensor([PROMPT + result.tokens]))[0].log_softmax(-1)[len(PROMPT) - 1 :]
        assert len(delta.logprobs) == 6
        for row, token, report in zip(rows, result.tokens, delta.logprobs, strict=False):
            assert report.chosen.token_id == token and len(report.top) == 4
            assert report.chosen.logprob == pytest.approx(float(row[token]), abs=1e-4)
            assert report.chosen.rank == int((row > row[token]).sum()) + 1
        assert delta.logprob == pytest.approx(sum(one.chosen.logprob for one in delta.logprobs), abs=1e-5)


def test_too_few_outputs_and_none_are_refused(net: CausalLM) -> None:
    few = SamplingParams(num_beams=4, allowed_token_ids=(7,))
    results = search(make_engine(net), outputs(PROMPT, few, 1, max_tokens=3))
    assert results[0].tokens == [7, 7, 7]
    for family, said in (
        (outputs(PROMPT, few, 2, max_tokens=3), "only 1 different"),
        (outputs(PROMPT, few, 2, bad_words=(b"\x07",)), "no token is left"),
    ):
        engine = make_engine(net)
        results = search(engine, family)
        assert [len(result.deltas) for result in results] == [1, 1]
        for result in results:
            assert isinstance(result.deltas[0].error, InvalidInput) and said in str(result.deltas[0].error)
        assert engine.scheduler.pool.available == engine.scheduler.pool.usable


def endings(family: list[Sequence], deltas: list[object]) -> list[type]:
    assert [delta.sequence for delta in deltas] == family
    return [type(delta.error) for delta in deltas]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_deadline_failure_and_drain_end_each_output_once(net: CausalLM, steps: int) -> None:
    for how in ("deadline", "drain", "fail"):
        engine, now = make_engine(net), [0.0]
        engine._clock = partial(now.__getitem__, 0)
        family = outputs(PROMPT, SamplingParams(num_beams=4), 3, deadline=10.0)
        engine.add(family)
        for _ in range(steps):
            assert engine.step() == []
        if how == "deadline":
            now[0] = 10.0
            deltas = engine.step()
        elif how == "drain":
            deltas = engine.drain(OSError())
        else:
            engine.runner = None
            with pytest.raises(AttributeError):
                engine.step()
            deltas = engine.fail(OSError())
        assert endings(family, deltas) == [DeadlinePassed if how == "deadline" else OSError] * 3
        assert not engine.busy and engine.scheduler.pool.available == engine.scheduler.pool.usable


class Breaking:
    """A text sink that fails at the third token."""

    def __init__(self, left: int = 3) -> None:
        self.left = left

    def push(self, token: int) -> tuple[str, str | None]:
        self.left -= 1
        if not self.left:
            raise OSError("no more")
        return "", None

    def flush(self) -> tuple[str, str | None]:
        return "", None

    def fork(self) -> "Breaking":
        return Breaking(self.left)


def test_a_beam_that_goes_wrong_ends_its_search_alone(net: CausalLM) -> None:
    (expected,) = run(make_engine(net), workload(1))
    engine = make_engine(net)
    request = Request(tuple(PROMPT), SamplingParams(num_beams=4))
    family = [Sequence(request, index, Breaking()) for index in range(2)]
    engine.add(family)
    engine.add(others := workload(1))
    found = collect(engine, [*family, *others])
    assert [type(result.deltas[0].error) for result in found[:2]] == [OSError] * 2
    assert found[2].tokens == expected.tokens and [len(result.deltas) for result in found[:2]] == [1, 1]
    assert engine.scheduler.pool.available == engine.scheduler.pool.usable


def test_random_arrivals_aborts_and_priorities(model: CausalLM | Int8) -> None:
    expected = alone(model, searches(10))
    engine = make_engine(model, num_blocks=40, max_batch_tokens=40, max_sequences=7)
    draw, todo, families = random.Random(3), list(range(10)), searches(10)
    results = {id(one): Result() for family in families for one in family}
    lone = workload(6)
    aborted: set[int] = set()
    while todo or lone or engine.busy:
        if todo and draw.random() < 0.2:
            engine.add(families[todo.pop()])
        if lone and draw.random() < 0.2:
            engine.add([lone.pop()])
        if draw.random() < 0.01 and engine.busy:
            victim = next(iter(engine.scheduler.sequences())).request
            engine.abort(victim)
            aborted.add(id(victim))
        for delta in engine.step():
            if id(delta.sequence) in results:
                results[id(delta.sequence)].take(delta)
        engine.scheduler.check_integrity()
    for family, wanted in zip(families, expected, strict=True):
        got = [results[id(one)] for one in family]
        if id(family[0].request) in aborted:
            assert not any(result.deltas for result in got)
        else:
            assert shown(got) == wanted and all(len(result.deltas) == 1 for result in got)
    assert engine.scheduler.pool.available == engine.scheduler.pool.usable
