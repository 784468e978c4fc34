"""A request as a short text for the log, at a cost that its size does not change. Knows no log and no service."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from services.runtime.redaction import LONGEST, Redactor, clipped

MOST = 2048
# Escaped, they would hang a letter before what follows, which then no longer begins a word.
CONTROLS = dict.fromkeys(range(32), " ")


def told(request: Any, redactor: Redactor) -> str:
    """At most MOST characters of field names and values, redacted. Numbers and bytes are counted, not shown:

    token ids spell a text that no redactor can read.
    """
    if not isinstance(request, Message):
        return f"<{len(request)} bytes>" if isinstance(request, bytes) else ""
    pieces: list[str] = []
    size = 0
    for piece in _pieces(request):
        pieces.append(piece)
        size += len(piece) + 1
        if size > MOST:
            break
    return clipped(redactor, " ".join(pieces), MOST)


def _pieces(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.is_repeated:
            yield from _repeated(field, value)
        elif field.message_type is not None:
            yield from _nested(field.name, value)
        else:
            yield f"{field.name}: {_scalar(field, value)}"


def _repeated(field: Any, values: Any) -> Iterator[str]:
    if field.message_type is not None and not field.message_type.GetOptions().map_entry:
        for value in values:
            yield from _nested(field.name, value)
    elif field.type == field.TYPE_STRING:
        for value in values:
            yield f"{field.name}: {_scalar(field, value)}"
    else:
        yield f"{field.name}: <{len(values)} values>"


def _nested(name: str, message: Message) -> Iterator[str]:
    yield f"{name} {{"
    yield from _pieces(message)
    yield "}"


def _scalar(field: Any, value: Any) -> str:
    if field.type == field.TYPE_BYTES:
        return f"<{len(value)} bytes>"
    if field.type == field.TYPE_STRING:
        # A little more than is shown, so that the cut is made where the redactor has seen both sides.
        return json.dumps(value[: MOST + LONGEST].translate(CONTROLS), ensure_ascii=False)
    return str(value)
