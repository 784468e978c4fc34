"""Paths into messages, `results[0].labels[0].name`: parsed, and checked against what a message can hold.

Pure: knows descriptors, no message and no step.
"""

import re
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_PART = re.compile(r"([\w-]+)(?:\[(\d{1,9})\])?", re.ASCII)


class PathError(Exception):
    """What is wrong with a path, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field on the way; `index` where it is an item of a list."""

    name: str
    index: int | None = None

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"


Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a path leads to: a field, or one item of it; `listed` if it is the whole list."""

    field: FieldDescriptor
    listed: bool


def parse(text: str) -> Parts:
    """Raises PathError for what is no path."""
    found = [_PART.fullmatch(part) for part in text.split(".")]
    if not all(found):
        raise PathError(f"{text!r} is no path; write it as in step.results[0].name")
    return tuple(Part(m[1], None if m[2] is None else int(m[2])) for m in found if m)


def leaf(message: Descriptor, parts: Parts) -> Leaf:
    """Follows `parts` from `message`. Raises PathError naming the part that cannot be followed."""
    here: Descriptor | None = message
    for part, last in zip(parts, [*[False] * (len(parts) - 1), True], strict=True):
        field = _field(here, part, before=parts)
        if field.is_repeated and part.index is None and not last:
            raise PathError(f"{part.name} is a list; say which item, as in {part.name}[0]")
        if not field.is_repeated and part.index is not None:
            raise PathError(f"{part.name} is no list; leave [{part.index}] out")
        here = field.message_type
    return Leaf(field, field.is_repeated and parts[-1].index is None)


def _field(message: Descriptor | None, part: Part, before: Parts) -> FieldDescriptor:
    if message is None:
        inner = before[before.index(part) - 1]
        raise PathError(f"{inner} is no message; end the path there, without .{part}")
    field: FieldDescriptor | None = message.fields_by_name.get(part.name)
    if field is None:
        have = ", ".join(f.name for f in message.fields)
        raise PathError(f"{message.name} has no field {part.name!r}; it has {have}")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise PathError(f"{part.name} is a map; maps take no part in bindings")
    return field
