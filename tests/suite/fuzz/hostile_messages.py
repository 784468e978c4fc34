"""Protobuf messages that lie: by their descriptor, so that they parse, and on the wire, so that they may not."""

import math
import random
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.suite.fuzz.hostile_bytes import mutated

INTS = (0, 1, 2, 7, 500, 10_001, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, -1e38, math.nan, math.inf, -math.inf)
TEXTS = (
    "",
    " ",
    "a",
    "\0",
    "é日本🙂",
    "\u202ereversed",
    "a\ufffd\uffff",
    "../../etc",
    "x" * 3000,
    "[MASK]",
    "<|im_end|>",
)
TAG_LIMIT, DEEP = 1 << 29, 150


def varied(draw: random.Random, message: Message) -> Message:
    """A copy with one to three fields, however deep, set to what nobody expects there."""
    found = type(message)()
    found.CopyFrom(message)
    for _ in range(draw.choice((1, 1, 2, 3))):
        _vary(draw, found, 0)
    return found


def _vary(draw: random.Random, message: Message, depth: int) -> None:
    """More often one that is set than one that is not."""
    fields = message.DESCRIPTOR.fields
    given = [field for field, _ in message.ListFields()]
    if not fields:
        return
    field = draw.choice(given) if given and draw.random() < 0.7 else draw.choice(fields)
    if draw.random() < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    elif field.message_type is not None:
        _vary_nested(draw, message, field, depth)
    elif field.is_repeated:
        _vary_list(draw, getattr(message, field.name), field)
    else:
        setattr(message, field.name, _value(draw, field))


def _vary_nested(draw: random.Random, message: Message, field: FieldDescriptor, depth: int) -> None:
    if depth > 6:
        return
    if not field.is_repeated:
        child = getattr(message, field.name)
        child.SetInParent()
        _vary(draw, child, depth + 1)
        return
    children = getattr(message, field.name)
    if children and draw.random() < 0.7:
        _vary(draw, draw.choice(children), depth + 1)
        return
    source = draw.choice(children) if children else None
    for _ in range(draw.choice((1, 1, 2, 70))):
        added = children.add()
        if source is not None:
            added.CopyFrom(source)


def _vary_list(draw: random.Random, values: Any, field: FieldDescriptor) -> None:
    how = draw.randrange(4)
    if how == 0 and values:
        values[draw.randrange(len(values))] = _value(draw, field)
    elif how == 1:
        del values[draw.randrange(len(values) + 1) :]
    else:
        values.extend(_value(draw, field) for _ in range(draw.choice((1, 2, 5, 300))))


def _value(draw: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return draw.choice(REALS)
    if kind == field.CPPTYPE_BOOL:
        return draw.random() < 0.5
    if kind == field.CPPTYPE_ENUM:
        return draw.choice((0, 1, 2, 3, 11, 77, -1, 2**31 - 1))
    if kind == field.CPPTYPE_STRING:
        return draw.randbytes(draw.choice((0, 1, 4, 33))) if field.type == field.TYPE_BYTES else draw.choice(TEXTS)
    bits = 64 if kind in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64) else 32
    signed = kind in (field.CPPTYPE_INT64, field.CPPTYPE_INT32)
    number = draw.choice(INTS) & ((1 << bits - signed) - 1)
    return -number if signed and draw.random() < 0.4 else number


# --- On the wire (protobuf.dev/programming-guides/encoding) ------------------------------------------------------


def rewritten(draw: random.Random, data: bytes) -> bytes:
    """The message with a field dropped, doubled, renumbered, mistyped, misnested, or of another length."""
    fields = _fields(data)
    if not fields or draw.random() < 0.1:
        return mutated(draw, data)
    at = draw.randrange(len(fields))
    number, kind, content = fields[at]
    how = draw.randrange(9)
    if how == 0:
        del fields[at]
    elif how == 1:
        fields.insert(draw.randrange(len(fields)), fields[at])
    elif how == 2:
        fields[at] = draw.choice((number + 1, 19_000, TAG_LIMIT - 1, 0)), kind, content
    elif how == 3:
        fields[at] = number, draw.randrange(8), content
    elif how == 4 and kind == 2:
        fields[at] = number, kind, draw.choice((b"\xff\xfe\xfd", b"\xed\xa0\x80", b"\xc0\x80" * 9, b""))
    elif how == 5 and kind == 2:
        fields[at] = number, kind, _deep(number, content, draw.choice((3, 90, DEEP)))
    elif how == 6:
        lie = _varint(draw.choice((2**31, 2**32 - 1, 2**63, 2**64 - 1, len(content) + 1)))
        whole = _joined(fields[:at]) + _varint(number << 3 | 2) + lie + content
        return whole + _joined(fields[at + 1 :])
    elif how == 7 and kind == 0:
        fields[at] = (
            number,
            kind,
            draw.choice((b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x00", b"\xff" * 11, b"\x80")),
        )
    else:
        inner = rewritten(draw, content) if kind == 2 and draw.random() < 0.6 else mutated(draw, content)
        fields[at] = number, kind, inner
    return _joined(fields)


def _deep(number: int, content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        content = _varint(number << 3 | 2) + _varint(len(content)) + content
    return content


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Number, wire type and content of each field; [] for what is no message."""
    found, at = [], 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            kind = tag & 7
            if kind == 0:
                _, end = _read_varint(data, at)
            elif kind == 2:
                length, at = _read_varint(data, at)
                end = at + length
            elif kind in (1, 5):
                end = at + (8 if kind == 1 else 4)
            else:
                return []
            if end > len(data):
                return []
            found.append((tag >> 3, kind, data[at:end]))
            at = end
    except IndexError:
        return []
    return found


def _joined(fields: list[tuple[int, int, bytes]]) -> bytes:
    written = bytearray()
    for number, kind, content in fields:
        written += _varint(number << 3 | kind)
        written += _varint(len(content)) + content if kind == 2 else content
    return bytes(written)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def floats(draw: random.Random, count: int) -> bytes:
    """Little-endian float32: noise, with some values that are none or far too large."""
    values = [draw.gauss(0, 1) for _ in range(count)]
    for _ in range(draw.choice((0, 0, 0, 1, 3)) if count else 0):
        values[draw.randrange(count)] = draw.choice(REALS)
    return struct.pack(f"<{count}f", *values)
