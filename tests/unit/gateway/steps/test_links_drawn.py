"""What the check takes, a run can fill, or it says why not: over paths drawn from the contracts themselves."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway.steps.check import plan
from gateway.steps.links import Link, input_root
from gateway.steps.paths import PathError
from gateway.steps.templates import TooLong
from gateway.steps.values import put, read
from maas.gateway.v1 import gateway_pb2
from services.runtime.errors import InvalidInput

KINDS = [field.name for field in gateway_pb2.Call.DESCRIPTOR.oneofs_by_name["request"].fields]
INPUTS = {field.name: field.name for field in gateway_pb2.Input.DESCRIPTOR.fields}
TEMPLATES = ["", "", "", "{}", "{}", "x{}{a.served_by.model}", "x"]
REALS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def message(kind: str, owner: Descriptor) -> Descriptor:
    found = owner.fields_by_name[kind].message_type
    assert found is not None
    return found


def path(draw: Random, start: Descriptor) -> str:
    """A walk down a message; now and then one that it does not have."""
    parts: list[str] = []
    here: Descriptor | None = start
    while here is not None and (not parts or draw.random() < 0.8):
        field = draw.choice(list(here.fields))
        item = field.is_repeated != (draw.random() < 0.05) and (
            field.message_type is not None or draw.random() < 0.6
        )
        parts.append(f"{field.name}[{draw.choice((0, 0, 0, 1))}]" if item else field.name)
        here = field.message_type
    return ".".join([*parts, *draw.choice([[]] * 18 + [["nothing"], [""]])])


def filled(draw: Random, into: Any, depth: int = 0) -> Any:
    """Drawn values in most fields."""
    for field in into.DESCRIPTOR.fields:
        deep = field.message_type is not None and (depth > 3 or field.message_type.GetOptions().map_entry)
        if deep or draw.random() < 0.15:
            continue
        values = [value(draw, field, depth) for _ in range(draw.randint(1, 2))]
        if field.is_repeated:
            getattr(into, field.name).extend(values)
        elif field.message_type is not None:
            getattr(into, field.name).CopyFrom(values[0])
        else:
            setattr(into, field.name, values[0])
    return into


def value(draw: Random, field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return filled(draw, GetMessageClass(field.message_type)(), depth + 1)
    if field.enum_type is not None:
        return draw.choice([0, 1, 99])
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw.choice(["", "a", "né", "x" * 40])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw.choice([b"", b"\0\xff"])
    if field.cpp_type in REALS:
        return draw.choice([0.0, 0.5, -1.5, float("inf"), 1e30])
    return draw.choice([0, 1, True]) if field.type == field.TYPE_BOOL else draw.choice([0, 1, 2**31 - 1])


def drawn(draw: Random) -> tuple[list[gateway_pb2.Step], str, str]:
    """Two steps, the second bound once, and their kinds."""
    source, target = draw.choice(KINDS), draw.choice(KINDS)
    reply, request = (
        message(source, gateway_pb2.CallResult.DESCRIPTOR),
        message(target, gateway_pb2.Call.DESCRIPTOR),
    )
    root, found = draw.choice([("a", reply), ("inputs", gateway_pb2.Input.DESCRIPTOR)])
    binding = gateway_pb2.Binding(
        target_path=f"{target}.{path(draw, request)}",
        source_path=f"{root}.{path(draw, found)}",
        template=draw.choice(TEMPLATES),
    )
    first = gateway_pb2.Step(name="a", request={source: {}})
    return [first, gateway_pb2.Step(name="b", request={target: {}}, bindings=[binding])], source, target


def end(draw: Random) -> str:
    """How one drawn pipeline ended: refused, unmet or filled, and filled rightly."""
    steps, source, target = drawn(draw)
    try:
        (link,) = plan(steps, INPUTS, "steps").links["b"]
    except InvalidInput as error:
        assert error.message.startswith("steps[1].bindings[0].")
        return "refused"
    reply = GetMessageClass(message(source, gateway_pb2.CallResult.DESCRIPTOR))()
    found = {"a": filled(draw, reply), **{input_root(name): filled(draw, gateway_pb2.Input()) for name in INPUTS}}
    into = getattr(steps[1].request, target)
    try:
        wanted = link.value(found, 100)
        put(into, link.target, link.leaf, wanted)
    except (PathError, TooLong) as error:
        assert str(error)
        return "unmet"
    check(link, wanted, read(into, link.target))
    return "templated" if link.texts else "copied"


def check(link: Link, wanted: Any, got: Any) -> None:
    if link.leaf.listed:
        assert list(got) == list(wanted)
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted)
    else:
        assert got == wanted


def test_every_pipeline_is_refused_or_filled_or_says_what_is_missing() -> None:
    draw = Random(8)
    ends = Counter(end(draw) for _ in range(6000))
    assert all(ends[kind] > 20 for kind in ("refused", "unmet", "templated", "copied")), ends
