"""What a caller can make large has a bound: those that the protos declare hold, and no field lacks one."""

from collections.abc import Iterator, Mapping

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from maas.admin.v1 import admin_service_pb2 as admin
from maas.common.v1 import constraints_pb2
from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.generation.v1 import generation_service_pb2 as generation
from maas.model.v1 import model_service_pb2 as model
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_service_pb2 as vision
from services.runtime.errors import InvalidInput
from services.runtime.validate import validate

CONTRACTS = (admin, gateway, generation, model, oip, sequence, tokenization, vision)
# Beyond the size of their message, by name or by what their names begin with.
ELSEWHERE: Mapping[str, str] = {
    "maas.common.v1.TokenIds.": "ids by the model's context; a digest is compared, and cut short where it is told",
    "maas.common.v1.Tensor.": "by what its shape and the model's say",
    "maas.common.v1.Series.packed": "by the model's longest series",
    "maas.generation.v1.Sampling.allowed_token_ids": "each by the vocabulary, off the event loop",
    "maas.gateway.v1.RunPipelineRequest.InputsEntry.key": "by the names of the pipeline's inputs",
    "maas.gateway.v1.RunPipelineStreamRequest.InputsEntry.key": "by the names of the pipeline's inputs",
    "maas.gateway.v1.Input.text": "by the field that a step puts it into",
    "maas.tokenization.v1.DetokenizeStreamRequest.": "by the message: each is decoded by itself",
    "inference.": "not of our own making: by the model's metadata, see oip_checks and oip_parameters",
}


def requests() -> list[Descriptor]:
    """Every message that can be in a request."""
    found: dict[str, Descriptor] = {}

    def walk(one: Descriptor) -> None:
        if one.full_name not in found:
            found[one.full_name] = one
            for inner in one.fields:
                if inner.message_type is not None:
                    walk(inner.message_type)

    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                walk(method.input_type)
    return list(found.values())


def limits(field: FieldDescriptor) -> constraints_pb2.Limits:
    return field.GetOptions().Extensions[constraints_pb2.limits]


def large(kind: str) -> Iterator[FieldDescriptor]:
    """Fields of `kind` of growth: `max_items` or `max_bytes`."""
    for message in requests():
        for field in message.fields:
            grows = field.is_repeated if kind == "max_items" else field.cpp_type == FieldDescriptor.CPPTYPE_STRING
            if grows:
                yield field


def bounded(kind: str) -> list[FieldDescriptor]:
    return [field for field in large(kind) if limits(field).HasField(kind)]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["max_items", "max_bytes"])
def test_no_field_of_a_request_grows_without_a_bound(kind: str) -> None:
    free = [field.full_name for field in large(kind) if field not in bounded(kind)]
    assert not [name for name in free if not name.startswith(tuple(ELSEWHERE))], "declare a limit in the proto"


def test_what_is_bounded_elsewhere_is_still_there() -> None:
    names = [field.full_name for kind in ("max_items", "max_bytes") for field in large(kind)]
    assert all(any(name.startswith(begin) for name in names) for begin in ELSEWHERE)


@pytest.mark.parametrize("field", bounded("max_items"), ids=lambda field: field.full_name)
def test_one_item_more_is_refused_by_field_limit_and_fix(field: FieldDescriptor) -> None:
    most = limits(field).max_items
    message = message_factory.GetMessageClass(field.containing_type)()
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(message, field, most + 1)
    elif field.message_type is not None:
        for _ in range(most + 1):
            getattr(message, field.name).add()
    else:
        textual = field.cpp_type == FieldDescriptor.CPPTYPE_STRING
        getattr(message, field.name).extend(["a" if textual else 1] * (most + 1))
    refused(message, field.name, most)


@pytest.mark.parametrize("field", bounded("max_bytes"), ids=lambda field: field.full_name)
def test_one_byte_more_is_refused_by_field_and_limit(field: FieldDescriptor) -> None:
    most = limits(field).max_bytes
    message = message_factory.GetMessageClass(field.containing_type)()
    text = b"a" * (most + 1) if field.type == FieldDescriptor.TYPE_BYTES else "a" * (most + 1)
    if field.is_repeated:
        getattr(message, field.name).append(text)
    else:
        setattr(message, field.name, text)
    refused(message, f"{field.name}[0]" if field.is_repeated else field.name, most)


def _fill_map(message: object, field: FieldDescriptor, count: int) -> None:
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for number in range(count):
        name = str(number) if key.cpp_type == FieldDescriptor.CPPTYPE_STRING else number
        entries = getattr(message, field.name)
        if value.message_type is not None:
            entries[name].SetInParent()
        else:
            entries[name] = 1


def refused(message: object, field: str, most: int) -> None:
    with pytest.raises(InvalidInput) as error:
        validate(message)  # type: ignore[arg-type]
    said = {one.field: one.description for one in error.value.violations}
    assert str(most) in said[field], said
