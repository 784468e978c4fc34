"""The fields of a request by dotted name, and who honours which. A field that cannot be honoured is refused, never
ignored. Knows field names, not what they mean."""

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from maas.generation.v1 import generation_service_pb2 as service_pb
from services.runtime.errors import Unimplemented

GROUPS = ("sampling", "stopping", "constraint", "output")  # messages whose own fields are named
# Values that ask for nothing, and so are honoured by all.
NEUTRAL: Mapping[str, object] = {
    "sampling.num_beams": 1,
    "sampling.length_penalty": 1.0,
    "sampling.typical_p": 1.0,
}


def names(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    """Every field, such as `sampling.top_k`."""
    for field in descriptor.fields:
        if field.message_type and field.name in GROUPS:
            yield from names(field.message_type, f"{field.name}.")
        else:
            yield prefix + field.name


def given(message: Message, prefix: str = "") -> Iterator[str]:
    """The fields that are set and ask for something."""
    for field, value in message.ListFields():
        name = prefix + field.name
        if field.name in GROUPS:
            yield from given(value, f"{field.name}.")
        elif name not in NEUTRAL or value != NEUTRAL[name]:
            yield name


EVERYTHING = frozenset(names(service_pb.GenerateStreamRequest.DESCRIPTOR))
ENGINE = EVERYTHING
"""What the suite's own engine honours."""


def require(request: Message, honoured: frozenset[str]) -> None:
    """Raises Unimplemented naming the fields of `request` that are not in `honoured`."""
    refused = [name for name in given(request) if name not in honoured]
    if refused:
        raise Unimplemented(f"{', '.join(refused)}: not served here; leave it unset")
