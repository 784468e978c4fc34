"""Rows of ids: padding, pooling, order, and the law that a batched answer is the lone one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.runtime.store.manifest import Manifest
from services.sequence.models.net import Net
from services.sequence.models.predict import predict_rows, predict_series, softmax, unit_length
from tests.unit.sequence.fakes import Arrays, HiddenRunner, hidden_net, spec

rows_of_ids = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=40), min_size=1, max_size=12)


@given(rows_of_ids)
def test_each_row_gets_the_mean_of_its_own_tokens_in_order(rows: list[list[int]]) -> None:
    answers = predict_rows(hidden_net(HiddenRunner()), [np.array(row, np.int64) for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(answer, [np.mean(row), 1.0], rtol=1e-5)


@given(rows_of_ids)
def test_no_row_is_padded_to_more_than_twice_its_length(rows: list[list[int]]) -> None:
    runner = HiddenRunner()
    predict_rows(hidden_net(runner), [np.array(row, np.int64) for row in rows])
    assert sum(count for count, _ in runner.shapes) == len(rows)
    assert sum(count * width for count, width in runner.shapes) <= 2 * sum(map(len, rows))


def test_pooling_by_first_token() -> None:
    (answer,) = predict_rows(hidden_net(HiddenRunner(), pooling="cls"), [np.array([7, 9, 11], np.int64)])
    assert answer.tolist() == [7.0, 1.0]


def test_softmax_is_stable_and_sums_to_one() -> None:
    shares = softmax(np.array([[1000.0, 1000.0, 0.0]], np.float32))
    assert shares.tolist() == [[0.5, 0.5, 0.0]]


def test_unit_length_keeps_direction_and_zero() -> None:
    scaled = unit_length(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    assert scaled.tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]


class LastRunner:
    """Logits: a row's value at its own end, and 0; counts rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, NDArray[Any]]:
        series, lengths = inputs["series"], inputs["lengths"]
        self.rows.append(len(series))
        last = series[np.arange(len(series)), lengths - 1, 0]
        return {"logits": np.stack([last, np.zeros_like(last)], axis=1)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("runner", "most"), [("onnxruntime", 16), ("torch", 50)])
def test_series_of_any_length_come_back_in_order_however_they_are_cut(runner: str, most: int) -> None:
    net = LastRunner()
    manifest = Manifest(
        name="last",
        version=1,
        tasks=("sequence.classify",),
        inputs=(spec("series", -1, -1, 1), spec("lengths", -1, dtype="int64")),
        outputs=(spec("logits", -1, 2),),
        runner=runner,
    )
    rows = [np.full((1 + number % 9, 1), number / 10, np.float32) for number in range(50)]
    found = predict_series(Net(net, manifest), rows)
    wanted = [1 / (1 + np.exp(-number / 10)) for number in range(50)]
    np.testing.assert_allclose([scores[0] for scores in found], wanted, rtol=1e-5)
    assert max(net.rows) <= most and sum(net.rows) == 50
