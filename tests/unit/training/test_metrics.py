"""Metrics against hand-made cases and their definitions."""

import numpy as np
import pytest

from training import metrics
from training.classification import report_of


def test_class_scores_of_a_small_table() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    table = metrics.confusion(predicted, truth, 4)
    assert table[0].tolist() == [2, 1, 0, 0]
    first, second, third, absent = metrics.class_scores(table)
    assert (first.precision, first.recall) == (0.5, pytest.approx(2 / 3))
    assert first.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert (second.precision, second.recall) == (0.5, 0.5)
    assert (third.precision, third.recall, third.f1, third.support) == (0, 0, 0, 1)
    assert absent.support == 0
    assert metrics.accuracy(predicted, truth) == 0.5
    assert metrics.macro_f1(predicted, truth, 4) == pytest.approx(np.mean([first.f1, second.f1, third.f1]))


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    assert metrics.expected_calibration_error(sure, np.zeros(10, int)) == pytest.approx(0.1)
    assert metrics.expected_calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0.0)


def test_skill_perplexity_and_entropy() -> None:
    assert metrics.skill(1.0, 4.0) == 0.75
    assert metrics.perplexity(np.log(7.0)) == pytest.approx(7.0)
    assert metrics.unigram_entropy([5, 5, 0]) == pytest.approx(np.log(2))
    assert metrics.mean_squared_error(np.array([1.0, 2.0]), np.array([0.0, 4.0])) == 2.5


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval(hits: int, count: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)
    assert metrics.wilson_interval(count - hits, count) == pytest.approx((1 - high, 1 - low), abs=1e-4)


def test_a_name_of_two_classes_is_told_by_the_first_which_its_rows_are_of() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 2]]
    report = report_of(probabilities, np.array([0, 0, 2]), ["crane", "crane", "owl"], {}, 0)
    assert {name: told["support"] for name, told in report.details["classes"].items()} == {"crane": 2, "owl": 1}
