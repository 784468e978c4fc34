"""The classification extension's texts."""

import numpy as np
import pytest

from services.runtime.oip_classes import top

NAMES = ["ant", "bee"]


def test_largest_first_and_equal_ones_by_index() -> None:
    scores = np.array([[0.25, 0.5, 0.5], [1, -1, 0]], np.float32)
    assert top(scores, 2, NAMES).tolist() == [
        [b"0.500000:1:bee", b"0.500000:2"],
        [b"1.000000:0:ant", b"0.000000:2"],
    ]


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_])
def test_whole_numbers_have_no_decimals(kind: type) -> None:
    assert top(np.array([0, 1], kind), 1, []).tolist() == [b"1:1"]


def test_no_more_than_there_are() -> None:
    assert top(np.zeros((3, 2, 4), np.float32), 9, NAMES).shape == (3, 2, 4)


def test_equal_values_keep_their_order_also_among_many() -> None:
    scores = np.random.default_rng(0).integers(0, 3, 1000).astype(np.float32)
    found = [tuple(map(float, text.split(b":"))) for text in top(scores, 1000, [])]
    assert found == sorted(found, key=lambda pair: (-pair[0], pair[1]))
