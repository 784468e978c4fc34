"""A request that is parsed and checked when somebody reads it: its bytes alone may do. Knows no gRPC."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message

from services.runtime.errors import InvalidInput
from services.runtime.validate import validate


@dataclass(frozen=True, slots=True)
class Unread:
    """What came for `method`, which takes messages of `kind`."""

    method: str
    kind: type[Message]
    data: bytes

    def message(self) -> Message:
        """Parsed anew each time. Raises InvalidInput if it does not parse or breaks a declared limit."""
        try:
            found = self.kind.FromString(self.data)
        except DecodeError:
            raise malformed(self.method) from None
        validate(found)
        return found


def malformed(method: str) -> InvalidInput:
    """Of bytes that are no request of `method`."""
    return InvalidInput(
        "",
        f"the message does not parse as the request of {method}; "
        "check the proto and that every string is valid UTF-8",
        reason="MALFORMED_MESSAGE",
    )
