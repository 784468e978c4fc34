"""Raw and typed tensor rules of the Open Inference Protocol."""

import numpy as np
import pytest

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import InvalidInput
from services.runtime.oip_tensors import join_bytes, read_inputs, write_outputs


def request(datatype: str, shape: list[int], raw: bytes | None = None, **contents: object) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m")
    tensor = made.inputs.add(name="x", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.MergeFrom(pb.InferTensorContents(**contents))  # type: ignore[arg-type]
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


@pytest.mark.parametrize("datatype", ["UINT8", "INT16", "INT64", "FP16", "FP32", "FP64", "BOOL"])
def test_raw_round_trip(datatype: str) -> None:
    dtypes = {
        "UINT8": "u1",
        "INT16": "<i2",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
        "BOOL": "?",
    }
    array = np.arange(6).reshape(2, 3).astype(dtypes[datatype])
    found = read_inputs(request(datatype, [2, 3], array.tobytes()))["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    reply = pb.ModelInferResponse()
    write_outputs(reply, {"x": array}, {"x": datatype}, raw=True)
    assert reply.raw_output_contents[0] == array.tobytes()
    assert list(reply.outputs[0].shape) == [2, 3]


def test_typed_in_typed_out() -> None:
    found = read_inputs(request("FP32", [1, 2], fp32_contents=[1.5, 2.5]))["x"]
    reply = pb.ModelInferResponse()
    write_outputs(reply, {"x": found}, {"x": "FP32"}, raw=False)
    assert list(reply.outputs[0].contents.fp32_contents) == [1.5, 2.5]
    assert not reply.raw_output_contents


def test_bytes_elements() -> None:
    values = [b"", "é".encode(), b"\x00\xff"]
    assert list(read_inputs(request("BYTES", [3], join_bytes(values)))["x"]) == values
    assert list(read_inputs(request("BYTES", [3], bytes_contents=values))["x"]) == values


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (request("FP32", [2], b"\0" * 4), "needs 2 elements"),
        (request("FP32", [1], b"\0" * 3), "whole number"),
        (request("FP32", [1]), "unable to find data"),
        (request("FP32", [1], int_contents=[1]), "fp32_contents"),
        (request("FP32", [1], fp32_contents=[1], int_contents=[1]), "fp32_contents"),
        (request("FP32", [1], b"\0" * 4, fp32_contents=[1]), "raw_input_contents is in use"),
        (request("BF8", [1], b"\0"), "is not one of"),
        (request("BF16", [1], b"\0\0\0"), "whole number"),
        (request("FP16", [1], fp32_contents=[1]), "needs raw_input_contents"),
        (request("FP32", [-1], b""), "negative axis"),
        (request("BYTES", [1], b"\x05\0\0\0ab"), "beyond the content"),
        (request("UINT8", [1], uint_contents=[256]), r"uint_contents\[0\]: is 256"),
        (request("FP32", [1] * 65, b"\0" * 4), "at most 8"),
        (request("FP32", [0, 2**62, 2**62], b""), "too large"),
        (request("BYTES", [1], bytes_contents=[b"", b""]), "has more"),
        # Broken behind the first element: refused for the second, so the rest was never walked through.
        (request("BYTES", [1], b"\0" * 8 + b"\1"), "has more"),
    ],
)
def test_broken_tensors_are_refused(broken: pb.ModelInferRequest, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_inputs(broken)


def test_bf16_is_the_rounded_high_half_of_float32() -> None:
    kind = pytest.importorskip("ml_dtypes").bfloat16
    values = np.concatenate([np.random.default_rng(0).normal(0, 1e3, 997), [np.inf, -np.inf, 0.0]]).astype("<f4")
    values = np.concatenate(
        [values, values.astype(kind).astype("<f4"), np.array([0x3F808000, 0x3F818000], "<u4").view("<f4")]
    )
    reply = pb.ModelInferResponse()
    write_outputs(reply, {"x": values.reshape(2, -1)}, {"x": "BF16"}, raw=True)
    assert reply.raw_output_contents[0] == values.astype(kind).tobytes()
    back = read_inputs(request("BF16", [2, len(values) // 2], reply.raw_output_contents[0]))["x"]
    np.testing.assert_array_equal(back.ravel(), values.astype(kind).astype("<f4"))
    none = pb.ModelInferResponse()
    write_outputs(none, {"x": np.array([np.nan, -np.nan], "<f4")}, {"x": "BF16"}, raw=True)
    assert np.isnan(np.frombuffer(none.raw_output_contents[0], kind).astype("<f4")).all()


def test_outputs_without_a_typed_list_take_all_others_raw_with_them() -> None:
    reply = pb.ModelInferResponse()
    arrays = {"x": np.ones((1, 2), "<f4"), "y": np.ones((1, 2), "<f2")}
    write_outputs(reply, arrays, {"x": "FP32", "y": "FP16"}, raw=False)
    assert [len(raw) for raw in reply.raw_output_contents] == [8, 4]
    assert not any(output.HasField("contents") for output in reply.outputs)
