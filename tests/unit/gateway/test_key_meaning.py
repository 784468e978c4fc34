"""Equal key if and only if equal meaning, for every request whose answer is remembered, whatever it is made of."""

import math
from array import array
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cache_key import cache_key, fingerprint
from gateway.methods import SERVICES, Method, methods_of
from gateway.streams.convert import unary
from gateway.streams.streams import STREAM
from maas.generation.v1.generation_service_pb2 import GenerateRequest
from tests.unit.gateway.meaning import DECIDED, DEFAULTS, EMPTY, FORMS, IRRELEVANT, meaning, messages_of, unknown

METHODS = [method for area, service in SERVICES.items() for method in methods_of(area, service)]
REMEMBERED = [method for method in METHODS if method.remembers]
UNKNOWN = (b"", b"", b"\xa8\x46\x01", b"\xa8\x46\x02")

# A few values of each kind, so that two draws often meet.
_INTEGERS, _FLOATS = (0, 1, 2, 256), (0.0, -0.0, 0.5, 1.0, math.nan, math.inf)
_KINDS: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_FLOAT: _FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: _FLOATS,
}


def values(field: FieldDescriptor) -> tuple[Any, ...]:
    """What a field is set to."""
    if field.enum_type is not None:
        return tuple(value.number for value in field.enum_type.values)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return (b"", array("I", [1]).tobytes(), array("f", [0.5, -0.0]).tobytes())
    if field.type == FieldDescriptor.TYPE_STRING:
        return ("", "a", "b")
    return _KINDS.get(field.cpp_type, _INTEGERS)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def put(draw: st.DrawFn, message: Any, field: FieldDescriptor) -> None:
    """Something, or nothing, for one field."""
    message.ClearField(field.name)
    if is_map(field):
        keys = draw(st.lists(st.sampled_from((1, 2)), unique=True))
        for key in keys:
            getattr(message, field.name)[key] = draw(st.sampled_from((0.5, -0.0)))
    elif field.is_repeated:
        for _ in range(draw(st.integers(0, 2))):
            if field.message_type:
                fill(draw, getattr(message, field.name).add())
            else:
                getattr(message, field.name).append(draw(st.sampled_from(values(field))))
    elif draw(st.booleans()):
        if field.message_type:
            fill(draw, getattr(message, field.name))
        else:
            setattr(message, field.name, draw(st.sampled_from(values(field))))


def fill(draw: st.DrawFn, message: Any) -> None:
    """A few of a message's fields, now and then one that this build does not know."""
    fields = list(message.DESCRIPTOR.fields)
    message.SetInParent()
    if fields:
        for field in draw(st.lists(st.sampled_from(fields), max_size=4)):
            put(draw, message, field)
    message.MergeFromString(draw(st.sampled_from(UNKNOWN)))


def parts(message: Any) -> list[Any]:
    """The message and all that stand in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type and not is_map(field):
            found += [part for item in (value if field.is_repeated else [value]) for part in parts(item)]
    return found


def respell(message: Any, field: FieldDescriptor) -> None:
    """The same meaning in other words, where this field has any."""
    if field.full_name in IRRELEVANT:
        setattr(message, field.name, "x" if field.type == FieldDescriptor.TYPE_STRING else 3)
    elif field.full_name in EMPTY:
        getattr(message, field.name).SetInParent()
    elif field.full_name in DEFAULTS:
        given_ = message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))
        if not given_:
            setattr(message, field.name, DEFAULTS[field.full_name])
    elif message.DESCRIPTOR.full_name in FORMS and message.values and not message.packed:
        message.packed = array(FORMS[message.DESCRIPTOR.full_name], message.values).tobytes()
        message.ClearField("values")


@st.composite
def pairs(draw: st.DrawFn, kind: type[Any]) -> tuple[Any, Any]:
    """Two requests: one, and what a few changes of words or of meaning make of it."""
    first, second = kind(), kind()
    fill(draw, first)
    second.CopyFrom(first)
    for _ in range(draw(st.integers(0, 3))):
        part = draw(st.sampled_from(parts(second)))
        field = draw(st.sampled_from(list(part.DESCRIPTOR.fields) or [None]))
        if field is None or draw(st.integers(0, 9)) == 9:
            part.MergeFromString(draw(st.sampled_from(UNKNOWN)))
        elif draw(st.booleans()):
            put(draw, part, field)
        else:
            respell(part, field)
    # Over the wire, as they come.
    return kind.FromString(first.SerializeToString()), kind.FromString(second.SerializeToString())


def key(method: Method, request: Any, *around: str) -> str:
    model, digest, tenant = around or ("m", "d", "")
    return cache_key(method.path, model, digest, tenant, fingerprint(request))


@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", REMEMBERED, ids=lambda method: f"{method.area}-{method.name}")
def test_equal_key_if_and_only_if_equal_meaning(method: Method, examples: int) -> None:
    seen = {True: 0, False: 0}
    around = st.tuples(*[st.sampled_from(("", "a"))] * 3)

    @settings(max_examples=examples)
    @given(pairs(method.request), around, around)
    def check(requests: tuple[Any, Any], one: tuple[str, ...], other: tuple[str, ...]) -> None:
        first, second = requests
        same = meaning(first) == meaning(second)
        seen[same] += 1
        assert (key(method, first) == key(method, second)) == same
        assert (key(method, first, *one) == key(method, second, *other)) == (same and one == other)

    check()
    # Of so many both must be among them.
    assert examples < 500 or all(seen.values())


def streamed(request: Any) -> Any:
    """The meaning of a stream's request in a unary request's words."""
    plain = GenerateRequest(**{field.name: value for field, value in request.ListFields()})
    return meaning(plain), unknown(request)


@settings(max_examples=40)
@given(pairs(STREAM.request))
def test_a_stream_has_the_key_of_its_unary_call(requests: tuple[Any, Any]) -> None:
    first, second = map(unary, requests)
    if first is not None and second is not None:
        assert (fingerprint(first) == fingerprint(second)) == (streamed(requests[0]) == streamed(requests[1]))


def test_every_field_is_decided() -> None:
    found: dict[str, Descriptor] = {}
    for method in REMEMBERED:
        messages_of(method.request.DESCRIPTOR, found)
    assert {name: [field.name for field in one.fields] for name, one in found.items()} == {
        name: words.split() for name, words in DECIDED.items()
    }
    fields = {field.full_name: field for one in found.values() for field in one.fields}
    assert {*DEFAULTS, *EMPTY, *IRRELEVANT} <= fields.keys()


def paths(descriptor: Descriptor, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to every field of a request."""
    found = []
    for field in descriptor.fields:
        found.append((*before, field.name))
        if field.message_type and not is_map(field):
            found += paths(field.message_type, (*before, field.name))
    return found


def at(request: Any, path: tuple[str, ...]) -> Any:
    """The message that has the path's last field, made where it is not."""
    for name in path[:-1]:
        request = getattr(request, name)
        request = request.add() if hasattr(request, "add") else request
        request.SetInParent()
    return request


def set_to(message: Any, name: str, place: int) -> None:
    """The `place`th other value of a field than its default."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if is_map(field):
        getattr(message, name)[1 + place] = 0.5
    elif field.message_type:
        for _ in range(place + 1):
            getattr(message, name).add() if field.is_repeated else getattr(message, name).SetInParent()
    else:
        default = DEFAULTS.get(field.full_name, field.default_value)
        other = [
            value for value in values(field) if value not in (default, field.default_value) and value == value
        ]
        other = other if len(other) > 1 else [*other, *other]
        if field.is_repeated:
            getattr(message, name).extend([other[0]] * (place + 1))
        else:
            setattr(message, name, other[place] if other else not default)


@pytest.mark.parametrize("method", REMEMBERED, ids=lambda method: f"{method.area}-{method.name}")
def test_each_field_alone_changes_the_key_unless_it_cannot_change_an_answer(method: Method) -> None:
    for path in paths(method.request.DESCRIPTOR):
        without, given_ = method.request(), method.request()
        at(without, path)
        set_to(at(given_, path), path[-1], 0)
        part = at(method.request(), path)
        name = part.DESCRIPTOR.fields_by_name[path[-1]].full_name
        assert (key(method, without) == key(method, given_)) == (name in {*IRRELEVANT, *EMPTY}), path
