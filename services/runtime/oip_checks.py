"""What an Open Inference Protocol request says of its tensors, against a model's metadata. Reads no content."""

import math
from collections.abc import Sequence

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import InvalidInput, shortened
from services.runtime.oip_parameters import check_tensor, classes
from services.runtime.store.manifest import TensorSpec

# Each string is work of its own (a text, an encoded picture), so their number is bounded whatever the model takes.
MOST_STRINGS = 4096

Tensor = pb.ModelInferRequest.InferInputTensor


def check_inputs(request: pb.ModelInferRequest, specs: Sequence[TensorSpec], most_rows: int = 0) -> None:
    """Names, datatypes and shapes; `most_rows` bounds the first axis. Raises InvalidInput naming the input."""
    model, known = shortened(request.model_name), {spec.name: spec for spec in specs}
    seen: set[str] = set()
    # A repeated or unknown name ends the loop, so it is never longer than the model's inputs.
    for index, tensor in enumerate(request.inputs):
        where = f"inputs[{index}]"
        if tensor.name not in known:
            raise InvalidInput(
                f"{where}.name",
                f"{model!r} has no input {shortened(tensor.name)!r}; it has {', '.join(known)}",
            )
        if tensor.name in seen:
            raise InvalidInput(f"{where}.name", f"{shortened(tensor.name)!r} is given twice; give each input once")
        seen.add(tensor.name)
        _check_tensor(tensor, known[tensor.name], where)
        if most_rows and tensor.shape[0] > most_rows:
            raise InvalidInput(
                f"{where}.shape", f"has {tensor.shape[0]} rows; at most {most_rows} are taken, split the request"
            )
    missing = sorted(set(known) - seen)
    if missing:
        raise InvalidInput("inputs", f"{model!r} needs {', '.join(known)}; missing {', '.join(missing)}")


def _check_tensor(tensor: Tensor, spec: TensorSpec, where: str) -> None:
    if tensor.parameters:
        check_tensor(tensor.parameters, where)
    if tensor.datatype != spec.dtype:
        raise InvalidInput(f"{where}.datatype", f"is {shortened(tensor.datatype)}; {spec.name!r} is {spec.dtype}")
    if len(tensor.shape) != len(spec.shape):
        raise InvalidInput(f"{where}.shape", f"has {len(tensor.shape)} axes; {spec.name!r} is {list(spec.shape)}")
    if not all(want in (-1, axis) and axis > 0 for axis, want in zip(tensor.shape, spec.shape, strict=True)):
        raise InvalidInput(f"{where}.shape", f"is {list(tensor.shape)}; {spec.name!r} is {list(spec.shape)}")
    if spec.dtype == "BYTES" and math.prod(tensor.shape) > MOST_STRINGS:
        raise InvalidInput(
            f"{where}.shape", f"is {list(tensor.shape)}; at most {MOST_STRINGS} elements, split the request"
        )


def check_version(version: str) -> None:
    """Raises InvalidInput unless `version` is empty or plain digits."""
    if version and not (version.isascii() and version.isdecimal()):
        raise InvalidInput("model_version", f"{shortened(version)!r} is not an integer")


def requested(request: pb.ModelInferRequest, specs: Sequence[TensorSpec]) -> dict[str, int]:
    """The outputs to give, all when none is named, and how many classes of each; 0 = the tensor itself.

    Raises InvalidInput for a name that is not there or comes twice, and for classes of what is no number.
    """
    known = {spec.name: spec.dtype for spec in specs}
    if len(request.outputs) > len(known):
        raise InvalidInput("outputs", f"has {len(request.outputs)} entries; the model gives {', '.join(known)}")
    found: dict[str, int] = {}
    for index, output in enumerate(request.outputs):
        where = f"outputs[{index}]"
        if output.name not in known:
            raise InvalidInput(f"{where}.name", f"{shortened(output.name)!r} is not one of {', '.join(known)}")
        if output.name in found:
            raise InvalidInput(f"{where}.name", f"{output.name!r} is named twice; name each output once")
        found[output.name] = _classes(output, known[output.name], where) if output.parameters else 0
    return found or dict.fromkeys(known, 0)


def _classes(output: pb.ModelInferRequest.InferRequestedOutputTensor, datatype: str, where: str) -> int:
    check_tensor(output.parameters, where)
    count = classes(output.parameters, f"{where}.")
    if count and datatype == "BYTES":
        raise InvalidInput(
            f"{where}.parameters[classification]", f"{output.name!r} is BYTES; only numbers have classes"
        )
    return count
