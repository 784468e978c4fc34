"""What is drawn follows the distribution that was asked for: by formula, by chi-square over thousands of seeds,
and through the whole engine. Every seed is fixed, so a test that passes passes always."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.generation.engine import sampler
from services.generation.engine.draws import uniform
from services.generation.engine.processors import candidates, edit
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.engine.row import Row
from tests.engine import distribution as exact
from tests.engine.distribution import Said, distribution, p_value
from tests.engine.tiny import Int8, make_engine, run, text_sink, tiny_model
from tests.engine.tiny import sequence as tiny_sequence

VOCAB, DRAWS, ASKED, LEAST = 12, 2000, 300, 1e-4
SAID = Said(prompt=(3, 0, 3), output=(2, 5, 2))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def row_of(logits: np.ndarray) -> Row:
    values = torch.tensor(logits, dtype=torch.float32)
    return Row(values.unsqueeze(0), 0, int(values.argmax()), float(values.max()), float(values.logsumexp(0)))


def sequence(params: SamplingParams, seed: int = 0, index: int = 0, said: Said = SAID) -> Sequence:
    made = Sequence(Request(said.prompt, params, Stopping(), seed=seed), index, text_sink())
    for token in said.output:
        made.append(token)
    return made


def stages(params: SamplingParams) -> list[exact.Stage]:
    """The documented order."""
    found = [exact.penalties(params.repetition_penalty, params.frequency_penalty, params.presence_penalty)]
    found.append(exact.bias(dict(params.logit_bias)))
    if len(params.allowed_token_ids):
        found.append(exact.allowed(list(params.allowed_token_ids)))
    found.append(exact.temperature(params.temperature))
    if params.top_k:
        found.append(exact.top_k(params.top_k))
    found += [exact.top_p(params.top_p), exact.min_p(params.min_p), exact.typical_p(params.typical_p)]
    return found


def ours(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """[vocab] probabilities as the sampler has them."""
    one = sequence(params)
    row = torch.tensor(logits, dtype=torch.float32)
    ids, probabilities = candidates(edit(row, one) if one.edits_logits else row, params)
    found = np.zeros(len(logits))
    found[ids.numpy()] = probabilities.numpy()
    return found


def drawn_params(draw: np.random.Generator) -> SamplingParams:
    """Any combination: each rule is on half of the time."""
    values: dict[str, Any] = {
        "top_k": int(draw.integers(1, VOCAB)),
        "top_p": float(draw.uniform(0.2, 1)),
        "min_p": float(draw.uniform(0, 0.4)),
        "typical_p": float(draw.uniform(0.2, 1)),
        "repetition_penalty": float(draw.uniform(0.5, 2)),
        "frequency_penalty": float(draw.uniform(-1, 1)),
        "presence_penalty": float(draw.uniform(-1, 1)),
        "logit_bias": {int(token): float(draw.normal(0, 2)) for token in draw.integers(0, VOCAB, 3)},
        "allowed_token_ids": tuple(sorted({*map(int, draw.integers(0, VOCAB, 8)), 1})),
    }
    chosen = {name: value for name, value in values.items() if draw.random() < 0.5}
    return SamplingParams(temperature=float(draw.uniform(0.3, 2.5)), **chosen)


def test_any_combination_is_the_documented_rules_one_after_the_other() -> None:
    draw = np.random.default_rng(1)
    for _ in range(400):
        params, logits = drawn_params(draw), draw.normal(0, 1.5, VOCAB).astype(np.float32).astype(np.float64)
        np.testing.assert_allclose(ours(logits, params), distribution(logits, stages(params), SAID), atol=1e-6)


COMBINED = [
    {"temperature": 1.0},
    {"temperature": 0.4},
    {"temperature": 2.0, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 1.3, "min_p": 0.15},
    {"temperature": 1.5, "typical_p": 0.7},
    {"temperature": 1.0, "repetition_penalty": 1.7},
    {"temperature": 1.0, "frequency_penalty": 0.7, "presence_penalty": -0.4},
    {"temperature": 0.8, "logit_bias": {4: 2.0, 9: -1.0}},
    {"temperature": 1.2, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.95},
    {
        "temperature": 1.4,
        "top_p": 0.85,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "logit_bias": {1: 1.0},
    },
]


@pytest.mark.parametrize("values", COMBINED, ids=lambda values: "+".join(values))
def test_draws_of_many_seeds_follow_the_distribution(values: dict[str, Any]) -> None:
    params, logits = SamplingParams(**values), np.random.default_rng(2).normal(0, 1.2, VOCAB)
    row = row_of(logits)
    drawn = [sampler.choose(row, sequence(params, seed)) for seed in range(DRAWS)]
    counts, expected = np.bincount(drawn, minlength=VOCAB), distribution(logits, stages(params), SAID)
    assert not counts[expected == 0].any(), "a token that was cut off was drawn"
    assert p_value(counts, expected * DRAWS) > LEAST


def test_the_test_sees_a_distribution_that_is_a_little_off() -> None:
    """The power of the one above: a temperature wrong by a quarter."""
    logits = np.random.default_rng(2).normal(0, 1.2, VOCAB)
    row, params = row_of(logits), SamplingParams(temperature=1.0)
    drawn = [sampler.choose(row, sequence(params, seed)) for seed in range(DRAWS)]
    off = distribution(logits, stages(SamplingParams(temperature=1.25)), SAID)
    assert p_value(np.bincount(drawn, minlength=VOCAB), off * DRAWS) < LEAST


ORDER = [
    ("temperature", 2.2, "top_p", 0.6),
    ("temperature", 2.2, "min_p", 0.3),
    ("temperature", 2.2, "typical_p", 0.5),
    ("top_k", 4, "top_p", 0.7),
    ("top_k", 4, "typical_p", 0.5),
    ("top_p", 0.8, "typical_p", 0.5),
    ("min_p", 0.15, "typical_p", 0.5),
    ("bias", {4: 2.0, 7: 2.0}, "temperature", 2.2),
    ("bias", {4: 2.0, 7: 2.0}, "top_k", 4),
    ("penalties", (2.0, 0.8, 0.4), "bias", {2: 1.5, 3: -1.5}),
    ("penalties", (2.0, 0.8, 0.4), "temperature", 2.2),
    ("penalties", (2.0, 0.8, 0.4), "top_k", 4),
]


@pytest.mark.parametrize(("first", "one", "second", "other"), ORDER, ids=lambda value: str(value))
def test_the_order_is_the_documented_one(first: str, one: Any, second: str, other: Any) -> None:
    """Of two rules that do not commute: as documented on every row, and rows on which the other order differs."""
    given, differ = {first: one, second: other}, 0
    both = [getattr(exact, name)(*(value if name == "penalties" else (value,))) for name, value in given.items()]
    values = {"temperature": 1.0} | {
        key: value for key, value in given.items() if key not in ("bias", "penalties")
    }
    values |= {"logit_bias": given["bias"]} if "bias" in given else {}
    if "penalties" in given:
        names = ("repetition_penalty", "frequency_penalty", "presence_penalty")
        values |= dict(zip(names, given["penalties"], strict=True))
    draw = np.random.default_rng(5)
    for _ in range(60):
        logits = draw.normal(0, 1.5, VOCAB).astype(np.float32).astype(np.float64)
        found = ours(logits, SamplingParams(**values))
        np.testing.assert_allclose(found, distribution(logits, both, SAID), atol=1e-6)
        differ += not np.allclose(found, distribution(logits, both[::-1], SAID), atol=1e-3)
    assert differ >= 10


@pytest.mark.parametrize("kind", ["torch", "int8"])
@pytest.mark.parametrize(
    "values", [{"temperature": 1.5}, {"temperature": 2.0, "top_k": 20, "top_p": 0.9}], ids=str
)
def test_the_engine_draws_what_its_own_model_says(kind: str, values: dict[str, Any], tmp_path: Path) -> None:
    """Hundreds of requests of one prompt, in batches, against the log probabilities that the engine reports."""
    net = tiny_model()
    engine = make_engine(Int8.of(net, tmp_path) if kind == "int8" else net, max_sequences=32)
    params, prompt = SamplingParams(**values), [5, 17, 99, 3]
    (report,) = run(engine, [tiny_sequence(prompt, max_tokens=1, logprobs=128)])[0].deltas[0].logprobs
    logits = np.zeros(128)
    logits[[one.token_id for one in report.top]] = [one.logprob for one in report.top]
    asked = [tiny_sequence(prompt, params, seed=seed, max_tokens=1) for seed in range(ASKED)]
    counts = np.bincount([found.tokens[0] for found in run(engine, asked)], minlength=128)
    expected = distribution(logits, stages(params), Said(tuple(prompt)))
    assert not counts[expected == 0].any() and p_value(counts, expected * ASKED) > LEAST


def kolmogorov(found: np.ndarray) -> float:
    """√n · the largest distance from the uniform distribution; above 2.2 once in ten thousand."""
    ordered, steps = np.sort(found), np.arange(len(found) + 1) / len(found)
    return float(np.sqrt(len(found)) * max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


LINES = {
    "steps": [uniform(9, 2, step) for step in range(4000)],
    "indexes": [uniform(9, index, 2) for index in range(4000)],
    "seeds": [uniform(seed, 9, 2) for seed in range(4000)],
}


@pytest.mark.parametrize("line", LINES)
def test_numbers_along_each_argument_are_uniform_and_unrelated(line: str) -> None:
    found = np.array(LINES[line])
    assert kolmogorov(found) < 2.2
    for lag in (1, 2, 3, 7):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 4 / np.sqrt(len(found))
    cells, _, _ = np.histogram2d(found[:-1], found[1:], bins=8, range=[[0, 1], [0, 1]])
    assert p_value(cells.ravel(), np.full(64, cells.sum() / 64)) > LEAST


def pairs_of(line: str) -> list[tuple[int, int]]:
    """Two tokens of each of many requests: of neighbouring indexes, or of one step and the next."""
    row, params = row_of(np.random.default_rng(3).normal(0, 0.7, 6)), SamplingParams(temperature=1.0)
    outputs = ((), (1,)) if line == "steps" else ((), ())
    places = (0, 0) if line == "steps" else (0, 1)
    return [
        tuple(
            sampler.choose(row, sequence(params, seed, index, Said(output=output)))
            for index, output in zip(places, outputs, strict=True)
        )
        for seed in range(DRAWS)
    ]


@pytest.mark.parametrize("line", ["steps", "indexes"])
def test_two_draws_of_a_request_know_nothing_of_each_other(line: str) -> None:
    pairs = np.array(pairs_of(line))
    one = distribution(np.random.default_rng(3).normal(0, 0.7, 6), [])
    counts = np.bincount(pairs[:, 0] * 6 + pairs[:, 1], minlength=36)
    assert p_value(counts, np.outer(one, one).ravel() * DRAWS) > LEAST


def test_streams_of_neighbouring_seeds_share_no_number() -> None:
    rows = [[uniform(seed, 0, step) for step in range(50)] for seed in range(40)]
    assert len({value for row in rows for value in row}) == 2000
    assert all(abs(np.corrcoef(first, second)[0, 1]) < 0.65 for first, second in pairwise(rows))
