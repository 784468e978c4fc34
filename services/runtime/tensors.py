"""maas.common.v1.Tensor ↔ numpy, without a copy where the bytes allow it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maas.common.v1 import tensor_pb2
from services.runtime.errors import InvalidInput
from services.runtime.wire import varint

Array = npt.NDArray[Any]

_DTYPES: dict[tensor_pb2.DType.ValueType, np.dtype[Any]] = {
    tensor_pb2.D_TYPE_BOOL: np.dtype("?"),
    tensor_pb2.D_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.D_TYPE_UINT16: np.dtype("<u2"),
    tensor_pb2.D_TYPE_UINT32: np.dtype("<u4"),
    tensor_pb2.D_TYPE_UINT64: np.dtype("<u8"),
    tensor_pb2.D_TYPE_INT8: np.dtype("i1"),
    tensor_pb2.D_TYPE_INT16: np.dtype("<i2"),
    tensor_pb2.D_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.D_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.D_TYPE_FP16: np.dtype("<f2"),
    tensor_pb2.D_TYPE_FP32: np.dtype("<f4"),
    tensor_pb2.D_TYPE_FP64: np.dtype("<f8"),
}
_NAMES = {dtype: number for number, dtype in _DTYPES.items()}
MAX_AXES = 8
_LISTS = ("float_values", "double_values", "int_values", "uint_values")


def to_numpy(tensor: tensor_pb2.Tensor, field: str) -> Array:
    """The array; a read-only view when `data` is used. `field` is the proto path for errors.

    Raises InvalidInput: no or unservable dtype (BF16 has no numpy type), two forms of content, or a length
    that is not the product of the shape.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise InvalidInput(
            f"{field}.dtype", f"{tensor_pb2.DType.Name(tensor.dtype)} cannot be read; use D_TYPE_FP32"
        )
    shape = tuple(tensor.shape)
    check_axes(shape, f"{field}.shape")
    return shaped(_content(tensor, dtype, field), shape, f"{field}.shape")


def check_axes(shape: tuple[int, ...], field: str) -> None:
    """Raises InvalidInput for a shape that no array here has: over 8 axes, or a negative one."""
    if len(shape) > MAX_AXES:
        raise InvalidInput(field, f"has {len(shape)} axes; at most {MAX_AXES} allowed")
    if any(axis < 0 for axis in shape):
        raise InvalidInput(field, f"{list(shape)} has a negative axis")


def shaped(flat: Array, shape: tuple[int, ...], field: str) -> Array:
    """`flat` in its checked shape. Raises InvalidInput when the counts differ or numpy has no such shape."""
    if flat.size != math.prod(shape):
        raise InvalidInput(field, f"{list(shape)} needs {math.prod(shape)} elements; the content has {flat.size}")
    try:
        return flat.reshape(shape)
    except ValueError:  # an empty array whose other axes multiply beyond 63 bits
        raise InvalidInput(field, f"{list(shape)} is too large for an array") from None


def listed(tensor: tensor_pb2.Tensor) -> list[str]:
    """Names of the typed lists that hold values: those take long to read."""
    return [name for name in _LISTS if len(getattr(tensor, name))]


def _content(tensor: tensor_pb2.Tensor, dtype: np.dtype[Any], field: str) -> Array:
    filled = listed(tensor)
    data = tensor.data  # once: each look at the field copies it
    if data and filled:
        raise InvalidInput(field, f"data and {filled[0]} are both set; fill one")
    if len(filled) > 1:
        raise InvalidInput(field, f"{' and '.join(filled)} are both set; fill one")
    if filled:
        return _typed(tensor, filled[0], dtype, field)
    if len(data) % dtype.itemsize:
        raise InvalidInput(
            f"{field}.data", f"{len(data)} bytes are no whole number of {dtype.itemsize}-byte elements"
        )
    return np.frombuffer(data, dtype=dtype)


def _typed(tensor: tensor_pb2.Tensor, name: str, dtype: np.dtype[Any], field: str) -> Array:
    """The list as `dtype`; a list of another kind, or a value the dtype cannot hold, is refused, never wrapped."""
    wanted = _list_of(dtype)
    if name != wanted:
        raise InvalidInput(f"{field}.{name}", f"{tensor_pb2.DType.Name(tensor.dtype)} is given in {wanted}")
    return narrowed(getattr(tensor, name), dtype, f"{field}.{name}")


def narrowed(values: Sequence[Any], dtype: np.dtype[Any], field: str) -> Array:
    """A typed list as `dtype`. Raises InvalidInput naming the first value that it cannot hold."""
    found = np.asarray(values)
    if found.dtype.kind in "iu":
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (int(limits.min), int(limits.max)) if limits else (0, 1)
        bad = np.flatnonzero((found < low) | (found > high))
        if bad.size:
            raise InvalidInput(f"{field}[{bad[0]}]", f"is {found[bad[0]]}; must be in [{low}, {high}]")
    return found.astype(dtype, copy=False)


def _list_of(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "double_values" if dtype.itemsize == 8 else "float_values"
    return "int_values" if dtype.kind == "i" else "uint_values"


def from_numpy(array: Array, readable: bool = False) -> tensor_pb2.Tensor:
    """The array as bytes, or as `float_values` for people when `readable` (float32 only)."""
    number = _NAMES[array.dtype.newbyteorder("<")]
    if readable and array.dtype == np.float32:
        return tensor_pb2.Tensor(dtype=number, shape=array.shape, float_values=array.ravel().tolist())
    return tensor_pb2.Tensor(dtype=number, shape=array.shape, data=np.ascontiguousarray(array).tobytes())


def series(message: tensor_pb2.Series, field: str) -> Array:
    """float32 [steps, features]. Raises InvalidInput: NaN or infinity, both forms, or a ragged last step."""
    found = unchecked_series(message, field)
    check_finite_series(found, field)
    return found


def unchecked_series(message: tensor_pb2.Series, field: str) -> Array:
    """As `series`, but for NaN and infinity: whoever reads many looks for these in all of them at once."""
    packed, features = message.packed, message.features or 1  # once: each look at the field copies it
    if len(packed) % 4:
        raise InvalidInput(f"{field}.packed", f"{len(packed)} bytes are no whole number of float32")
    flat = np.frombuffer(packed, "<f4") if packed else _listed(message)
    if packed and len(message.values):
        raise InvalidInput(field, "values and packed are both set; fill one")
    if flat.size == 0 or flat.size % features:
        raise InvalidInput(field, f"has {flat.size} values; a positive multiple of features={features} is needed")
    return flat.reshape(-1, features)


def check_finite_series(values: Array, field: str) -> None:
    """Raises InvalidInput naming the first value that is no finite number."""
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        value = values.reshape(-1)[bad[0]]
        raise InvalidInput(f"{field}.values[{bad[0]}]", f"is {value}; a finite number is needed")


def _listed(message: tensor_pb2.Series) -> Array:
    """`values`, out of the message's own wire form: a tag, a length and little-endian float32, which come first as
    the field has the lowest number. Reading them one by one takes 20 times as long.
    """
    count = len(message.values)
    wire, head = message.SerializeToString(), b"\x0a" + varint(4 * count)
    if wire.startswith(head):
        return np.frombuffer(wire, "<f4", count, len(head))
    return np.asarray(message.values, dtype=np.float32)
