"""maas.generation.v1.Constraint → what is to be compiled. Knows no grammar and no engine."""

import json

from maas.generation.v1 import generation_pb2 as pb
from services.generation.grammars import Asked
from services.runtime.errors import InvalidInput

MOST_BYTES = 65536  # of all choices together; the other kinds are held to as much by the proto


def asked(constraint: pb.Constraint) -> Asked | None:
    """What the caller asks for; None for nothing. InvalidInput names the field."""
    kind = constraint.WhichOneof("kind")
    if kind is None or (kind == "json_object" and not constraint.json_object):
        return None
    if kind == "choice":
        return Asked(kind, _choices(constraint.choice))
    return Asked(kind, "" if kind == "json_object" else getattr(constraint, kind))


def _choices(choice: pb.Choice) -> str:
    size = choice.ByteSize()
    if size > MOST_BYTES:
        raise InvalidInput("constraint.choice", f"is {size} bytes in all, the limit is {MOST_BYTES}; offer less")
    return json.dumps(list(choice.values))
