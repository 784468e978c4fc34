"""What a request says of its tensors is checked against the model before any content is."""

import pytest

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import InvalidInput
from services.runtime.oip_checks import MOST_STRINGS, check_inputs, check_version, requested
from services.runtime.store.manifest import TensorSpec

SPECS = (
    TensorSpec(name="x", dtype="FP32", shape=(-1, 4)),
    TensorSpec(name="text", dtype="BYTES", shape=(-1,)),
)


def request(*tensors: tuple[str, str, list[int]]) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m")
    for name, datatype, shape in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    return made


X, TEXT = ("x", "FP32", [2, 4]), ("text", "BYTES", [2])


def test_what_fits_passes() -> None:
    check_inputs(request(X, TEXT), SPECS)
    check_inputs(request(TEXT, X), SPECS)


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        (request(X), "inputs", "missing text"),
        (request(X, ("z", "FP32", [1])), "inputs[1].name", "no input 'z'"),
        (request(X, TEXT, X), "inputs[2].name", "given twice"),
        (request(("x", "BYTES", [2, 4]), TEXT), "inputs[0].datatype", "'x' is FP32"),
        (request(("x", "FP32", [2, 5]), TEXT), "inputs[0].shape", "[-1, 4]"),
        (request(("x", "FP32", [0, 4]), TEXT), "inputs[0].shape", "[-1, 4]"),
        (request(("x", "FP32", [-1, 4]), TEXT), "inputs[0].shape", "[-1, 4]"),
        (request(("x", "FP32", [1] * 100_000), TEXT), "inputs[0].shape", "has 100000 axes"),
        (request(X, ("text", "BYTES", [MOST_STRINGS + 1])), "inputs[1].shape", f"at most {MOST_STRINGS}"),
    ],
)
def test_what_does_not_fit_is_named(wrong: pb.ModelInferRequest, field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_inputs(wrong, SPECS)
    (found,) = caught.value.violations
    assert found.field == field
    assert words in found.description


@pytest.mark.parametrize("version", ["²", "٣", "v1", "-1", " 1"])
def test_only_plain_digits_are_a_version(version: str) -> None:
    check_version("")
    check_version("12")
    with pytest.raises(InvalidInput):
        check_version(version)


def test_outputs_are_those_asked_for() -> None:
    asked = pb.ModelInferRequest(outputs=[{"name": "x"}])
    assert requested(asked, SPECS) == {"x": 0}
    assert requested(pb.ModelInferRequest(), SPECS) == {"x": 0, "text": 0}
    for names in (["z"], ["x"] * 2, ["x"] * 3):
        with pytest.raises(InvalidInput):
            requested(pb.ModelInferRequest(outputs=[{"name": name} for name in names]), SPECS)
