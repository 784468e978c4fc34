"""maas.common.v1 tensors, ids and series: bytes and readable lists mean the same, wrong ones are refused."""

import numpy as np
import pytest

from maas.common.v1 import tensor_pb2 as pb
from services.runtime import tensors
from services.runtime.errors import InvalidInput
from services.runtime.token_ids import token_ids


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i4", "i8", "f2", "f4", "f8"])
def test_bytes_round_trip(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    np.testing.assert_array_equal(tensors.to_numpy(tensors.from_numpy(array), "x"), array)


def test_readable_floats_round_trip() -> None:
    array = np.array([[1.5, -2.25]], dtype=np.float32)
    message = tensors.from_numpy(array, readable=True)
    assert list(message.float_values) == [1.5, -2.25]
    np.testing.assert_array_equal(tensors.to_numpy(message, "x"), array)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Tensor(shape=[1], data=b"\0"), "x.dtype"),
        (pb.Tensor(dtype="D_TYPE_BF16", shape=[1], data=b"\0\0"), "x.dtype"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[2], data=b"\0" * 4), "x.shape"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[1], data=b"\0" * 3), "x.data"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[2**63 - 1, 0]), "x.shape"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[1] * 65, data=b"\0" * 4), "x.shape"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[-1, -1], data=b"\0" * 4), "x.shape"),
        (pb.Tensor(dtype="D_TYPE_FP32", shape=[1], data=b"\0" * 4, float_values=[1]), "x"),
        (pb.Tensor(dtype="D_TYPE_UINT8", shape=[1], uint_values=[300]), "x.uint_values[0]"),
        (pb.Tensor(dtype="D_TYPE_INT8", shape=[2], int_values=[0, -129]), "x.int_values[1]"),
        (pb.Tensor(dtype="D_TYPE_BOOL", shape=[1], uint_values=[2]), "x.uint_values[0]"),
        (pb.Tensor(dtype="D_TYPE_UINT8", shape=[1], int_values=[-1]), "x.int_values"),
        (pb.Tensor(dtype="D_TYPE_UINT8", shape=[1], float_values=[float("nan")]), "x.float_values"),
    ],
)
def test_wrong_tensors_are_refused(message: pb.Tensor, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tensors.to_numpy(message, "x")
    assert caught.value.violations[0].field == field


def test_token_ids_in_both_forms() -> None:
    packed = np.array([1, 2**31, 5], dtype="<u4").tobytes()
    assert token_ids([], packed, "ids") == [1, 2**31, 5]
    assert token_ids([7], b"", "ids") == [7]
    for values, broken in (([1], packed), ([], b"\0\0\0")):
        with pytest.raises(InvalidInput):
            token_ids(values, broken, "ids")


@pytest.mark.parametrize("count", [1, 31, 32, 4095, 4096, 600_000])
def test_a_list_is_read_from_its_wire_form_to_the_last_value(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    message = pb.Series(values=values.tolist(), features=1, sample_rate_hz=16000)
    assert tensors.series(message, "s")[:, 0].tolist() == values.tolist() == list(message.values)


def test_series_by_steps_and_the_place_of_a_nan() -> None:
    assert tensors.series(pb.Series(values=[1, 2, 3, 4], features=2), "s").tolist() == [[1, 2], [3, 4]]
    packed = np.array([1, np.inf], dtype="<f4").tobytes()
    for message, field in (
        (pb.Series(values=[1, 2, 3], features=2), "s"),
        (pb.Series(), "s"),
        (pb.Series(packed=packed), "s.values[1]"),
        (pb.Series(values=[1, 2, float("nan")]), "s.values[2]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            tensors.series(message, "s")
        assert caught.value.violations[0].field == field
