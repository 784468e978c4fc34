"""Values in messages, read and written along paths. Knows no step; the paths were checked by `paths`."""

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.steps.paths import Leaf, Part, Parts, PathError

# Largest finite float32.
_MOST_FLOAT = 3.4028234663852886e38
_TYPE = FieldDescriptor


def read(message: Any, parts: Parts) -> Any:
    """The value there. Raises PathError where an item or an optional field is missing."""
    for part in parts:
        message = _item(message, part)
    return message


def _item(message: Any, part: Part) -> Any:
    field = message.DESCRIPTOR.fields_by_name[part.name]
    if field.has_presence and not message.HasField(part.name):
        raise PathError(f"{part.name} is not set")
    value = getattr(message, part.name)
    if part.index is None:
        return value
    if part.index >= len(value):
        raise PathError(f"{part} is not there: {part.name} has {_items(len(value))}")
    return value[part.index]


def place(message: Any, parts: Parts, leaf: Leaf) -> None:
    """Makes room for a value: the messages on the way, and the item after a list's last.

    Raises PathError for an item further off, and for a second field of a oneof.
    """
    holder = _holder(message, parts)
    last = parts[-1]
    _claim(holder, leaf.field)
    if last.index is not None:
        _grow(getattr(holder, last.name), last, leaf.field)
    elif leaf.field.message_type is not None and not leaf.listed:
        getattr(holder, last.name).SetInParent()
    elif leaf.field.has_presence and not holder.HasField(last.name):
        setattr(holder, last.name, leaf.field.default_value)


def put(message: Any, parts: Parts, leaf: Leaf, value: Any) -> None:
    """Writes a value where `place` made room. Raises PathError for a number that the field cannot hold."""
    holder, last = _holder(message, parts), parts[-1]
    found = getattr(holder, last.name)
    if leaf.listed:
        del found[:]
        found.extend(value)
    elif leaf.field.message_type is not None:
        (found if last.index is None else found[last.index]).CopyFrom(value)
    elif last.index is not None:
        found[last.index] = _fitting(leaf.field, value)
    else:
        setattr(holder, last.name, _fitting(leaf.field, value))


def weight(value: Any) -> int:
    """About the bytes that a copy of a value takes."""
    if isinstance(value, Message):
        return value.ByteSize()
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(weight, value)) if hasattr(value, "__len__") else 8


def _holder(message: Any, parts: Parts) -> Any:
    """The message that has the last part's field."""
    for part in parts[:-1]:
        field = message.DESCRIPTOR.fields_by_name[part.name]
        _claim(message, field)
        found = getattr(message, part.name)
        if part.index is None:
            found.SetInParent()
        else:
            _grow(found, part, field)
            found = found[part.index]
        message = found
    return message


def _claim(message: Any, field: FieldDescriptor) -> None:
    oneof = field.containing_oneof
    taken = message.WhichOneof(oneof.name) if oneof is not None else None
    if taken not in (None, field.name):
        raise PathError(f"{taken} is set already; {oneof.name} is either {taken} or {field.name}")  # type: ignore[union-attr]


def _grow(items: Any, part: Part, field: FieldDescriptor) -> None:
    assert part.index is not None
    if part.index > len(items):
        raise PathError(f"{part.name} has {_items(len(items))}; fill {part.name}[{len(items)}] first")
    if part.index == len(items):
        if field.message_type is not None:
            items.add()
        else:
            items.append(type_zero(field))


def type_zero(field: FieldDescriptor) -> Any:
    """What an item of a list is before it is written."""
    if field.type == _TYPE.TYPE_STRING:
        return ""
    return b"" if field.type == _TYPE.TYPE_BYTES else 0


def _fitting(field: FieldDescriptor, value: Any) -> Any:
    if field.type == _TYPE.TYPE_FLOAT and math.isfinite(value) and abs(value) > _MOST_FLOAT:
        raise PathError(f"{value:g} does not fit into {field.name}, a float")
    bounds = _BOUNDS.get(field.cpp_type)
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise PathError(f"{value} does not fit into {field.name}, which goes from {bounds[0]} to {bounds[1]}")
    return value


_BOUNDS = {
    _TYPE.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _TYPE.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _TYPE.CPPTYPE_UINT32: (0, 2**32 - 1),
    _TYPE.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"
