"""Metrics against hand-made cases and their definitions."""

import numpy as np
import pytest

from training import metrics


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


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    assert metrics.expected_calibration_error(sure, np.zeros(10, int)) == pytest.approx(0.1)
    assert metrics.expected_calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0.0)


def test_skill_perplexity_and_entropy() -> None:
    assert metrics.skill(1.0, 4.0) == 0.75
    assert metrics.perplexity(np.log(7.0)) == pytest.approx(7.0)
    assert metrics.unigram_entropy([5, 5, 0]) == pytest.approx(np.log(2))
    assert metrics.mean_squared_error(np.array([1.0, 2.0]), np.array([0.0, 4.0])) == 2.5
