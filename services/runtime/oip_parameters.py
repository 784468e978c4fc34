"""The reserved parameters of an Open Inference Protocol request, read and judged. Knows no model and no tensor.

Parameters of other names are the caller's own; no model here reads any.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import InvalidInput, Unimplemented, shortened

Parameters = Mapping[str, pb.InferParameter]

MOST_ID_BYTES = 128
_PREFIX = "triton_"
# Every reply is its request's last here, so no empty one need follow it.
_HARMLESS = frozenset({"triton_enable_empty_final_response"})
_SHARED = "shared_memory_"


@dataclass(frozen=True, slots=True)
class Part:
    """A request's place in a sequence. Numbers and texts are different ids, also where they read the same."""

    id: int | str
    start: bool
    end: bool

    @property
    def key(self) -> str:
        return f"{type(self.id).__name__}:{self.id}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the parameters of a request ask for; `raw` None = outputs travel as the inputs did."""

    sequence: Part | None = None
    timeout_s: float | None = None
    raw: bool | None = None


NOTHING = Asked()


def asked(given: Parameters) -> Asked:
    """Raises InvalidInput naming the parameter, Unimplemented for one that is known and not served."""
    if not given:
        return NOTHING
    for name in given:
        _check(name)
    if _whole(given, "priority"):
        raise Unimplemented(
            "parameters[priority] is not served: requests are taken in order of arrival; leave it out"
        )
    timeout_us = _whole(given, "timeout")
    raw = _flag(given, "binary_data_output") if "binary_data_output" in given else None
    return Asked(_part(given), timeout_us / 1e6 if timeout_us else None, raw)


def check_tensor(given: Parameters, where: str) -> None:
    """Raises Unimplemented where a tensor's content is not in the message."""
    for name in given:
        if name.startswith(_SHARED):
            raise Unimplemented(
                f"{where}.parameters[{shortened(name)}] is not served: there is no shared memory; send and take "
                "tensors in the message"
            )


def classes(given: Parameters, where: str) -> int:
    """How many classes an output is to be answered with; 0 = with the tensor itself."""
    if "classification" not in given:
        return 0
    count = _whole(given, "classification", where)
    if not count:
        raise InvalidInput(f"{where}parameters[classification]", "is 0; ask for 1 class or more, or leave it out")
    return count


def _check(name: str) -> None:
    if name == "headers":
        raise InvalidInput("parameters[headers]", "is reserved; send headers as metadata of the call")
    if name.startswith(_PREFIX) and name not in _HARMLESS:
        raise InvalidInput(f"parameters[{shortened(name)}]", f"names that begin with {_PREFIX} are reserved")


def _part(given: Parameters) -> Part | None:
    start, end = _flag(given, "sequence_start"), _flag(given, "sequence_end")
    found = _id(given)
    if found:
        return Part(found, start, end)
    if start or end:
        raise InvalidInput("parameters[sequence_id]", "is not set; a sequence needs an id other than 0")
    return None


def _id(given: Parameters) -> int | str:
    if "sequence_id" in given and given["sequence_id"].WhichOneof("parameter_choice") == "string_param":
        text = given["sequence_id"].string_param
        if len(text.encode()) > MOST_ID_BYTES:
            raise InvalidInput("parameters[sequence_id]", f"has over {MOST_ID_BYTES} bytes; take a shorter one")
        return text
    return _whole(given, "sequence_id")


def _whole(given: Parameters, name: str, where: str = "") -> int:
    """A number ≥ 0; 0 when it is not there."""
    if name not in given:
        return 0
    kind = given[name].WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidInput(f"{where}parameters[{name}]", f"is given as {kind}; int64_param is needed")
    value = int(getattr(given[name], kind))
    if value < 0:
        raise InvalidInput(f"{where}parameters[{name}]", f"is {value}; 0 or more is needed")
    return value


def _flag(given: Parameters, name: str) -> bool:
    if name not in given:
        return False
    kind = given[name].WhichOneof("parameter_choice")
    if kind != "bool_param":
        raise InvalidInput(f"parameters[{name}]", f"is given as {kind}; bool_param is needed")
    return given[name].bool_param
