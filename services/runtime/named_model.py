"""The models that a request names, whatever its type. Knows no gRPC."""

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from services.runtime.unread import Unread

FIELDS = ("model", "model_name")
# Parts of a stream's message that name the model in its place.
PARTS = ("open", "request")
# What the Open Inference Protocol asks of a model; a `name` elsewhere may be that of anything.
READS = frozenset(f"inference.Model{what}Request" for what in ("Ready", "Metadata", "Config", "Statistics"))


def models_in(method: str, request: Any) -> tuple[str, ...]:
    """The model, "" for the default one, and the adapter if there is one, without its version.

    Empty where it cannot name any: by its type, or because it does not parse, which is for others to refuse.

    `request`: a message, an Unread, or the bytes of one that `method` (`/package.Service/Method`) takes.
    """
    message = _message(method, request)
    return () if message is None else _named(message)


def _named(message: Any) -> tuple[str, ...]:
    kind = message.DESCRIPTOR
    for part in PARTS:
        if part in kind.fields_by_name:
            return _named(getattr(message, part)) if message.HasField(part) else ()
    fields = ("name",) if kind.full_name in READS else FIELDS
    found = [str(getattr(message, field)) for field in fields if field in kind.fields_by_name]
    return (*found, *_adapters(getattr(message, "adapter", "")))


def _adapters(named: str) -> tuple[str, ...]:
    """`named`: NAME or NAME@VERSION, "" = none. One without a name must not pass for the default model."""
    return (named.partition("@")[0] or named,) if named else ()


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
