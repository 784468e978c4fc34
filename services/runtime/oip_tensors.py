"""Tensors of the Open Inference Protocol ↔ numpy: raw and typed contents, by the protocol's rules.

Raw in → raw out, typed in → typed out. BYTES elements are a 4-byte little-endian length and the bytes. BF16, for
which numpy has no type, is float32 here: its two bytes are the high half of those.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from maas.oip.v1 import grpc_service_pb2 as oip
from services.runtime.errors import InvalidInput
from services.runtime.tensors import check_axes, narrowed, shaped

Array = npt.NDArray[Any]

# Datatype → (numpy dtype, typed list). FP16 and BF16 have no typed list: they travel raw alone.
_TYPES: dict[str, tuple[np.dtype[Any], str]] = {
    "BOOL": (np.dtype("?"), "bool_contents"),
    "UINT8": (np.dtype("u1"), "uint_contents"),
    "UINT16": (np.dtype("<u2"), "uint_contents"),
    "UINT32": (np.dtype("<u4"), "uint_contents"),
    "UINT64": (np.dtype("<u8"), "uint64_contents"),
    "INT8": (np.dtype("i1"), "int_contents"),
    "INT16": (np.dtype("<i2"), "int_contents"),
    "INT32": (np.dtype("<i4"), "int_contents"),
    "INT64": (np.dtype("<i8"), "int64_contents"),
    "FP16": (np.dtype("<f2"), ""),
    "BF16": (np.dtype("<f4"), ""),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
    "FP64": (np.dtype("<f8"), "fp64_contents"),
    "BYTES": (np.dtype("O"), "bytes_contents"),
}


def read_inputs(request: oip.ModelInferRequest) -> dict[str, Array]:
    """Every input by name. Raises InvalidInput naming input and model."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(
            "raw_input_contents",
            f"has {len(raw)} entries for {len(request.inputs)} inputs; one for each is needed",
        )
    found: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        where = f"inputs[{index}]"
        if raw and tensor.HasField("contents"):
            raise InvalidInput(
                f"{where}.contents", f"{tensor.name!r} of {request.model_name!r}: raw_input_contents is in use"
            )
        found[tensor.name] = _read(tensor, raw[index] if raw else None, where)
    return found


def _read(tensor: oip.ModelInferRequest.InferInputTensor, raw: bytes | None, where: str) -> Array:
    if tensor.datatype not in _TYPES:
        raise InvalidInput(f"{where}.datatype", f"{tensor.datatype!r} is not one of {', '.join(_TYPES)}")
    shape = tuple(tensor.shape)
    check_axes(shape, f"{where}.shape")
    most = math.prod(shape)
    flat = _typed(tensor, most, where) if raw is None else _raw(tensor.datatype, raw, most, where)
    return shaped(flat, shape, f"{where}.shape")


def _raw(datatype: str, raw: bytes, most: int, where: str) -> Array:
    dtype, _ = _TYPES[datatype]
    if datatype == "BYTES":
        return _objects(_split_bytes(raw, most, where))
    if len(raw) % (2 if datatype == "BF16" else dtype.itemsize):
        raise InvalidInput(where, f"{len(raw)} raw bytes are no whole number of {datatype} elements")
    return _widened(raw) if datatype == "BF16" else np.frombuffer(raw, dtype)


def _widened(raw: bytes) -> Array:
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")


def _halved(array: Array) -> Array:
    """float32 → the bits of BF16, rounded to the nearest, ties to even; what is no number stays none."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4")
    nearest = bits + 0x7FFF + ((bits >> 16) & 1)
    return np.where(np.isnan(array), bits | 0x400000, nearest).astype("<u4").view("<u2")[..., 1::2]


def _typed(tensor: oip.ModelInferRequest.InferInputTensor, most: int, where: str) -> Array:
    dtype, wanted = _TYPES[tensor.datatype]
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if not filled and 0 not in tensor.shape:
        raise InvalidInput(where, f"unable to find data for input tensor {tensor.name!r}")
    if filled and filled != [wanted]:
        need = wanted or "raw_input_contents"
        raise InvalidInput(f"{where}.contents", f"{tensor.datatype} needs {need}; found {', '.join(filled)}")
    if not filled:
        return np.empty(0, dtype)
    values = getattr(tensor.contents, wanted)
    if len(values) > most:
        raise _too_many(where, most)
    return (
        _objects(values) if tensor.datatype == "BYTES" else narrowed(values, dtype, f"{where}.contents.{wanted}")
    )


def _objects(values: Iterable[bytes]) -> Array:
    found = list(values)
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array


def _split_bytes(raw: bytes, most: int, where: str) -> list[bytes]:
    """The elements; stops at the first that the shape has no place for."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(found) == most:
            raise _too_many(where, most)
        if at + 4 > len(raw):
            raise InvalidInput(where, "a BYTES element's length is cut off")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise InvalidInput(where, f"a BYTES element of {length} bytes goes beyond the content")
        found.append(raw[at : at + length])
        at += length
    return found


def _too_many(where: str, most: int) -> InvalidInput:
    return InvalidInput(f"{where}.shape", f"needs {most} elements; the content has more")


def write_outputs(
    response: oip.ModelInferResponse, outputs: Mapping[str, Array], datatypes: Mapping[str, str], raw: bool
) -> None:
    """Fills `response` with the outputs, in their order; all travel raw where one has no typed list."""
    raw = raw or not all(_TYPES[datatypes[name]][1] for name in outputs)
    for name, array in outputs.items():
        datatype = datatypes[name]
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(_to_raw(array, datatype))
        else:
            getattr(tensor.contents, _TYPES[datatype][1]).extend(array.ravel().tolist())


def _to_raw(array: Array, datatype: str) -> bytes:
    if datatype == "BYTES":
        return join_bytes(array.ravel().tolist())
    if datatype == "BF16":
        return _halved(array).tobytes()
    return np.ascontiguousarray(array, dtype=_TYPES[datatype][0]).tobytes()


def join_bytes(values: Iterable[bytes]) -> bytes:
    """BYTES elements as they travel raw."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)
