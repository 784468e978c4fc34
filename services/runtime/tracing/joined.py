"""Work done for several calls at once: a part of each trace, linked to the others'. Knows no batch."""

from collections.abc import Mapping, Sequence

from services.runtime.tracing.span import Span, Value


def joined(name: str, calls: Sequence[Span], began: float, ended: float, attributes: Mapping[str, Value]) -> None:
    """Tells each of the traced `calls` of the work that they shared, in time.monotonic() seconds.

    The first one's part links to every other, theirs to the first: links grow with the calls, not their square.
    """
    parts = [made for call in calls if (made := call.part(name, began)) is not None]
    for at, part in enumerate(parts):
        part.attributes.update(attributes)
        for other in parts[1:] if at == 0 else parts[:1]:
            part.link(other)
        part.end(at=ended)


def queued(call: Span, began: float, ended: float) -> None:
    """Tells a call how long its work waited."""
    if (waited := call.part("queue", began)) is not None:
        waited.end(at=ended)
