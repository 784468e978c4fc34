"""What a door asks of whoever counts calls: let this one in, and see what it got. Counts nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from services.runtime.context import RequestContext


class Bill(Protocol):
    """One call's."""

    async def admit(self) -> None:
        """Before anything is done. Raises Overloaded for a caller who had enough."""

    async def add(self, reply: Any) -> None:
        """A reply, ahead of its way to the caller: bytes or a message. Raises Overloaded as `admit` does."""

    def close(self) -> None:
        """The call is over, however it ended."""


class Toll(Protocol):
    """What opens bills."""

    def bill(self, request: RequestContext) -> Bill | None:
        """None for calls that are nobody's to pay."""
