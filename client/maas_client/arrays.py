"""numpy ↔ the contracts' tensors, series and token ids. Makes no call."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maas.common.v1 import tensor_pb2

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint32]
# [steps] or [steps, features].
SeriesLike = npt.ArrayLike

_NUMBERS: dict[Any, tensor_pb2.DType.ValueType] = {
    np.dtype(np.uint8): tensor_pb2.D_TYPE_UINT8,
    np.dtype(np.float32): tensor_pb2.D_TYPE_FP32,
}


def series(values: SeriesLike, sample_rate_hz: int = 0) -> tensor_pb2.Series:
    """float32 [steps] or [steps, features] as bytes. ValueError for more axes."""
    array = np.asarray(values, np.float32)
    if array.ndim not in (1, 2):
        raise ValueError(f"a series has one axis or two (steps, features), not {array.ndim}")
    features = array.shape[1] if array.ndim == 2 else 1
    packed = np.ascontiguousarray(array, "<f4").tobytes()
    return tensor_pb2.Series(packed=packed, features=features, sample_rate_hz=sample_rate_hz)


def series_batch(values: Sequence[SeriesLike], sample_rate_hz: int = 0) -> tensor_pb2.SeriesBatch:
    """One series each."""
    return tensor_pb2.SeriesBatch(values=[series(one, sample_rate_hz) for one in values])


def token_ids(values: Sequence[int] | Ids, digest: str = "") -> tensor_pb2.TokenIds:
    """Ids as bytes. ValueError for one that is no uint32."""
    array = np.asarray(values)
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 0xFFFFFFFF):
        raise ValueError("token ids are whole numbers from 0 to 2**32 - 1")
    return tensor_pb2.TokenIds(packed=array.astype("<u4").tobytes(), tokenizer_digest=digest)


def unpacked_ids(packed: bytes) -> Ids:
    """uint32 [tokens]."""
    return np.frombuffer(packed, "<u4")


def tensor(array: npt.NDArray[Any]) -> tensor_pb2.Tensor:
    """uint8 or float32. ValueError for another type."""
    if array.dtype not in _NUMBERS:
        raise ValueError(f"an array of {array.dtype} is sent as uint8 or float32; convert it")
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return tensor_pb2.Tensor(dtype=_NUMBERS[array.dtype], shape=array.shape, data=little.tobytes())


def floats(tensor: tensor_pb2.Tensor) -> Floats:
    """float32 in the tensor's shape; read-only."""
    return np.frombuffer(tensor.data, "<f4").reshape(tuple(tensor.shape))
