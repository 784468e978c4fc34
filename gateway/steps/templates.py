"""Text with holes: `{}` and `{labels.results[0].labels[0].name}`. Knows no message."""

import re
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_STEP = r"[\w-]+(?:\[\d+\])?"
# A path has a dot, so that braces around anything else, as in JSON, are braces.
_HOLE = re.compile(rf"\{{((?:{_STEP}(?:\.{_STEP})+)?)\}}", re.ASCII)


class TooLong(Exception):
    """The text would be longer than allowed."""


def cut(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts around the holes, and what stands in each: one text more than holes."""
    found = _HOLE.split(template)
    return tuple(found[::2]), tuple(found[1::2])


def filled(texts: Sequence[str], values: Sequence[str], most: int) -> str:
    """The template with its holes filled. Raises TooLong before it makes more than `most` characters."""
    length = sum(map(len, texts)) + sum(map(len, values))
    if length > most:
        raise TooLong(f"the template makes {length} characters; at most {most} allowed")
    pairs = zip(texts, [*values, ""], strict=True)
    return "".join(text + value for text, value in pairs)


def told(field: FieldDescriptor, value: Any) -> str:
    """A value as text: numbers in as few digits as tell them apart, enums by name."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    return f"{value:.7g}" if field.type == FieldDescriptor.TYPE_FLOAT else str(value)
