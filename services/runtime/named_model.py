"""The model that a request names, whatever its type. Knows no gRPC."""

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.runtime.unread import Unread

FIELDS = ("model", "model_name")
OPENING = "open"  # the part of a session's message that names its model


def model_in(method: str, request: Any) -> str | None:
    """None where it cannot name one: by its type, or because it does not parse, which is for others to refuse.

    `request`: a message, an Unread, or the bytes of one that `method` (`/package.Service/Method`) takes.
    """
    message = _message(method, request)
    if message is None:
        return None
    fields = message.DESCRIPTOR.fields_by_name
    if OPENING in fields:
        return str(message.open.model) if message.HasField(OPENING) else None
    return next((str(getattr(message, name)) for name in FIELDS if name in fields), None)


def _message(method: str, request: Any) -> Any:
    if isinstance(request, Message):
        return request
    data = request.data if isinstance(request, Unread) else request
    if not isinstance(data, bytes):
        return None
    takes = descriptor_pool.Default().FindMethodByName(method[1:].replace("/", ".")).input_type
    try:
        return GetMessageClass(takes).FromString(data)
    except DecodeError:
        return None
