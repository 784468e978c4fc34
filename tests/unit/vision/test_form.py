"""Small ready inputs travel as one block, and only they: whatever is odd about one is left to who names it."""

import numpy as np
import pytest

from maas.common.v1.tensor_pb2 import D_TYPE_FP32, D_TYPE_INT32, Tensor
from maas.vision.v1.vision_pb2 import Image
from services.vision.form import form
from services.vision.prepare import MOST_TOGETHER

SHAPE = (1, 3, 2)


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, *SHAPE)).astype("<f4")


def image(row: np.ndarray, **changes: object) -> Image:
    fields = {"dtype": D_TYPE_FP32, "shape": row.shape, "data": row.tobytes()} | changes
    return Image(pixels=Tensor(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 64])
def test_every_value_comes_to_its_place(count: int) -> None:
    wanted = rows(count)
    read = form(SHAPE).read([image(row) for row in wanted], "images")
    assert read is not None and read.field.format(3) == "images[3].pixels"
    np.testing.assert_array_equal(read.rows, wanted)


good = rows(3)
nan = np.where(np.arange(6).reshape(SHAPE) == 5, np.nan, good[2]).astype("<f4")


@pytest.mark.parametrize(
    "odd",
    [
        Image(encoded=b"\x89PNG"),
        Image(),
        image(good[2], shape=(3, 1, 2)),
        image(good[2], shape=(6,)),
        image(good[2], dtype=D_TYPE_INT32),
        image(good[2], data=good[2].tobytes()[:-4]),
        image(good[2], float_values=[1.0]),
        image(good[2], data=b"", float_values=good[2].ravel().tolist()),
        image(nan),
    ],
)
def test_one_odd_picture_leaves_all_to_be_read_by_themselves(odd: Image) -> None:
    assert form(SHAPE).read([image(good[0]), image(good[1]), odd], "images") is None


def test_many_values_are_better_shared_out() -> None:
    large = np.zeros((1, 64, 32), "<f4")
    most = MOST_TOGETHER // large.size
    assert form(large.shape).read([image(large)] * most, "images") is not None
    assert form(large.shape).read([image(large)] * (most + 1), "images") is None
