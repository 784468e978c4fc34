"""Every sampling parameter against its exact distribution, worked out here by other means."""

import math

import numpy as np
import pytest
import torch

from services.generation.engine import sampler
from services.generation.engine.bad_words import BadWords, Vocabulary
from services.generation.engine.processors import candidates
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.generation.engine.row import Row
from services.runtime.errors import InvalidInput
from tests.engine.tiny import text_sink

LOGITS = np.array([1.5, 0.2, -0.7, 2.0, 0.9, -2.0, 1.1, 0.0])
LETTERS = Vocabulary([bytes([letter]) for letter in b"abcdefgh"])
PROMPT = (3, 0)
DRAWS = 3000
# Critical values of chi-square at p = 0.001 by degrees of freedom.
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 6: 22.46, 7: 24.32}

Weights = np.ndarray[tuple[int], np.dtype[np.float64]]


def sequence(
    sampling: SamplingParams,
    output: tuple[int, ...] = (),
    seed: int = 0,
    index: int = 0,
    bad_words: tuple[bytes, ...] = (),
    **stopping: object,
) -> Sequence:
    request = Request(PROMPT, sampling, Stopping(**stopping), seed=seed)
    made = Sequence(request, index, text_sink(), BadWords(bad_words, LETTERS))
    for token in output:
        made.append(token)
    return made


def softmax(logits: Weights) -> Weights:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def keep(probabilities: Weights, kept: list[int]) -> Weights:
    """Only `kept`, renormalised."""
    cut = np.zeros_like(probabilities)
    cut[kept] = probabilities[kept]
    return cut / cut.sum()


def logits_row() -> Row:
    logits = torch.tensor(LOGITS, dtype=torch.float32)
    return Row(logits.unsqueeze(0), 0, int(logits.argmax()), float(logits.max()), float(logits.logsumexp(0)))


def smallest_set(probabilities: Weights, order: list[int], mass: float) -> list[int]:
    kept, total = [], 0.0
    for token in order:
        if total >= mass:
            break
        kept.append(token)
        total += probabilities[token]
    return kept


def check(sampling: SamplingParams, expected: Weights, output: tuple[int, ...] = (), **stopping: object) -> None:
    """Draws of many seeds follow `expected` (chi-square) and never leave its support."""
    row = logits_row()
    drawn = [sampler.choose(row, sequence(sampling, output, seed, **stopping)) for seed in range(DRAWS)]
    counts = np.bincount(drawn, minlength=8)
    support = expected > 0
    assert not counts[~support].any(), "a token without probability was drawn"
    wanted = expected[support] * DRAWS
    statistic = ((counts[support] - wanted) ** 2 / wanted).sum()
    assert statistic < CRITICAL[support.sum() - 1]


def test_temperature() -> None:
    check(SamplingParams(temperature=1.0), softmax(LOGITS))
    check(SamplingParams(temperature=0.5), softmax(LOGITS / 0.5))


def test_top_k() -> None:
    check(SamplingParams(temperature=1.0, top_k=3), keep(softmax(LOGITS), [3, 0, 6]))


def test_top_p() -> None:
    probabilities = softmax(LOGITS)
    order = list(np.argsort(-LOGITS))
    check(SamplingParams(temperature=1.0, top_p=0.7), keep(probabilities, smallest_set(probabilities, order, 0.7)))


def test_min_p() -> None:
    probabilities = softmax(LOGITS)
    kept = [token for token in range(8) if probabilities[token] >= 0.3 * probabilities.max()]
    assert 1 < len(kept) < 8
    check(SamplingParams(temperature=1.0, min_p=0.3), keep(probabilities, kept))


def test_typical_p() -> None:
    probabilities = softmax(LOGITS)
    entropy = -(probabilities * np.log(probabilities)).sum()
    order = list(np.argsort(np.abs(-np.log(probabilities) - entropy)))
    kept = smallest_set(probabilities, order, 0.5)
    assert int(np.argmax(LOGITS)) not in kept or len(kept) < 8
    check(SamplingParams(temperature=1.0, typical_p=0.5), keep(probabilities, kept))


def test_cuts_follow_one_another_each_on_what_the_last_left() -> None:
    first = keep(softmax(LOGITS / 0.8), [3, 0, 6, 4])
    kept = smallest_set(first, [3, 0, 6, 4], 0.8)
    check(SamplingParams(temperature=0.8, top_k=4, top_p=0.8), keep(first, kept))


@pytest.mark.parametrize(
    "rule", [{"top_p": 0.4}, {"top_p": 0.95}, {"min_p": 0.5}, {"min_p": 1e-9}, {"typical_p": 0.3}]
)
def test_a_large_vocabulary_is_cut_as_a_whole_sort_would(rule: dict[str, float]) -> None:
    """Peaked and flat rows: the cut ends within the likeliest thousand, or far beyond them."""
    draw = np.random.default_rng(0)
    for spread in (0.01, 1.0, 6.0):
        logits = draw.normal(0, spread, 5000)
        probabilities = softmax(logits)
        entropy = -(probabilities * np.log(probabilities)).sum()
        order = (
            np.argsort(-logits)
            if "typical_p" not in rule
            else np.argsort(np.abs(-np.log(probabilities) - entropy))
        )
        mass = rule.get("top_p", rule.get("typical_p", 1.0))
        kept = smallest_set(probabilities, list(order), mass) if mass < 1 else list(range(5000))
        kept = [token for token in kept if probabilities[token] >= rule.get("min_p", 0) * probabilities.max()]
        ids, found = candidates(torch.tensor(logits), SamplingParams(temperature=1.0, **rule))
        assert sorted(ids.tolist()) == sorted(int(token) for token in kept)
        np.testing.assert_allclose(found.numpy(), keep(probabilities, kept)[ids.numpy()], rtol=1e-9)


def test_logit_bias() -> None:
    biased = LOGITS.copy()
    biased[5] += 3.0
    biased[3] -= 1.0
    check(SamplingParams(temperature=1.0, logit_bias={5: 3.0, 3: -1.0}), softmax(biased))


def test_repetition_penalty_counts_prompt_and_output() -> None:
    penalised = LOGITS.copy()
    for token in {*PROMPT, 2}:
        penalised[token] = penalised[token] / 1.6 if penalised[token] > 0 else penalised[token] * 1.6
    check(SamplingParams(temperature=1.0, repetition_penalty=1.6), softmax(penalised), output=(2,))


def test_frequency_and_presence_penalty_count_the_output_alone() -> None:
    penalised = LOGITS.copy()
    penalised[2] -= 2 * 0.5
    penalised[6] -= 0.5
    check(SamplingParams(temperature=1.0, frequency_penalty=0.5), softmax(penalised), output=(2, 2, 6))
    penalised = LOGITS.copy()
    penalised[[2, 6]] -= 0.9
    check(SamplingParams(temperature=1.0, presence_penalty=0.9), softmax(penalised), output=(2, 2, 6))


def test_allowed_token_ids() -> None:
    check(SamplingParams(temperature=1.0, allowed_token_ids=(1, 5, 7)), keep(softmax(LOGITS), [1, 5, 7]))


def test_bad_words_leave_the_exact_distribution_without_them() -> None:
    others = [0, 1, 2, 4, 5, 6, 7]
    check(SamplingParams(temperature=1.0), keep(softmax(LOGITS), others), bad_words=(b"d",))
    check(SamplingParams(temperature=1.0), keep(softmax(LOGITS), others), bad_words=(b"gd",), output=(6,))
    check(SamplingParams(temperature=1.0), softmax(LOGITS), bad_words=(b"gd",), output=(5,))


def test_min_tokens_holds_off_every_end_token() -> None:
    held = {"min_tokens": 2, "eos_token_ids": frozenset([3]), "stop_token_ids": frozenset([0])}
    check(SamplingParams(temperature=1.0), keep(softmax(LOGITS), [1, 2, 4, 5, 6, 7]), output=(1,), **held)
    check(SamplingParams(temperature=1.0), softmax(LOGITS), output=(1, 1), **held)


@pytest.mark.parametrize(
    ("sampling", "output", "expected"),
    [
        (SamplingParams(), (), 3),
        (SamplingParams(logit_bias={7: 5.0}), (), 7),
        (SamplingParams(repetition_penalty=3.0), (), 6),
        (SamplingParams(frequency_penalty=2.0), (3,), 0),
        (SamplingParams(allowed_token_ids=(2, 7)), (), 7),
    ],
)
def test_greedy_takes_the_likeliest_of_what_is_left(
    sampling: SamplingParams, output: tuple[int, ...], expected: int
) -> None:
    row = logits_row()
    assert sampler.choose(row, sequence(sampling, output)) == expected
    assert row.logits.tolist() == pytest.approx(LOGITS.tolist())  # the row itself is left alone


def test_greedy_leaves_bad_words_out() -> None:
    row = logits_row()
    assert sampler.choose(row, sequence(SamplingParams(), bad_words=(b"d", b"a"))) == 6


def test_no_token_left_is_said() -> None:
    row = logits_row()
    with pytest.raises(InvalidInput, match="no token is left"):
        sampler.choose(row, sequence(SamplingParams(allowed_token_ids=(3,)), bad_words=(b"d",)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("factor", [1e-42, math.nan])
def test_edits_that_make_a_row_infinite_are_refused(temperature: float, factor: float) -> None:
    row = logits_row()
    with pytest.raises(InvalidInput, match="not finite"):
        sampler.choose(row, sequence(SamplingParams(temperature=temperature, repetition_penalty=factor)))


def test_seed_index_and_step_each_matter_and_decide_alone() -> None:
    row, warm = logits_row(), SamplingParams(temperature=2.0)

    def line(seed: int, index: int, first: int = 0) -> list[int]:
        steps = (sequence(warm, (1,) * step, seed, index) for step in range(first, first + 40))
        return [sampler.choose(row, one) for one in steps]

    assert line(5, 0) == line(5, 0)
    assert len({tuple(x) for x in (line(5, 0), line(6, 0), line(5, 1), line(5, 0, 1))}) == 4


def test_reported_log_probabilities_are_the_models_own() -> None:
    known = logits_row().log_probabilities()
    report = sampler.report(known, 4, 3)
    exact = np.log(softmax(LOGITS))
    assert [one.token_id for one in report.top] == [3, 0, 6] and [one.rank for one in report.top] == [1, 2, 3]
    assert report.chosen.rank == 4 and math.isclose(report.chosen.logprob, exact[4], rel_tol=1e-5)
    assert [one.logprob for one in report.top] == pytest.approx(exact[[3, 0, 6]].tolist(), rel=1e-5)
