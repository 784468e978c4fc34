"""One timed part of a call that is traced. Knows no sampler, no OTLP and no gRPC."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Self

from services.runtime import context as calls

# What one span may hold: a stream of hours must not fill the memory.
MOST_EVENTS, MOST_LINKS, MOST_PARTS = 64, 32, 96
LEFT_OUT = "maas.left_out"

Value = str | int | float | bool


class Kind(IntEnum):
    """As OTLP numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `at`, time.monotonic() seconds."""

    name: str
    at: float
    attributes: Mapping[str, Value]


@dataclass(slots=True, eq=False)
class Span:
    """`began` and `ended` are time.monotonic() seconds; ids are hexadecimal, as in W3C trace context.

    `keep` takes it once it ended; what is told of it afterwards is lost.
    """

    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str
    keep: Callable[["Span"], None]
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    failed: bool = False
    state: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    # (trace id, span id) of what it was joined with.
    links: list[tuple[str, str]] = field(default_factory=list)
    parts: int = 0

    def child(self, name: str, kind: Kind = Kind.INTERNAL, began: float | None = None) -> "Span":
        """A part of this one, open until it is ended."""
        started = time.monotonic() if began is None else began
        more = (self.trace_id, calls.new_span_id(), self.span_id, self.keep, started)
        return Span(name, kind, *more, state=self.state)

    def part(self, name: str, began: float) -> "Span | None":
        """One of a call's many parts; None where they are too many, which is noted."""
        self.parts += 1
        if self.parts > MOST_PARTS:
            self.note(LEFT_OUT, self.parts - MOST_PARTS)
            return None
        return self.child(name, began=began)

    def note(self, key: str, value: Value) -> None:
        if self.ended is None:
            self.attributes[key] = value

    def event(self, name: str, **attributes: Value) -> None:
        if self.ended is None and len(self.events) < MOST_EVENTS:
            self.events.append(Event(name, time.monotonic(), attributes))

    def link(self, other: "Span") -> None:
        """It shares its work with `other`, mostly of another trace."""
        if self.ended is None and len(self.links) < MOST_LINKS:
            self.links.append((other.trace_id, other.span_id))

    def end(self, failed: bool = False, at: float | None = None) -> None:
        """The first end counts."""
        if self.ended is None:
            self.failed, self.ended = failed, time.monotonic() if at is None else at
            self.keep(self)

    @property
    def exemplar(self) -> dict[str, str]:
        """What a histogram keeps of the call beside its bucket."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(failed=error is not None)


NOTHING: AbstractContextManager[None] = nullcontext()


def timed(name: str) -> AbstractContextManager[Span | None]:
    """A block of the current call's work, told if the call is traced and has not told too many."""
    span = calls.current().span
    return NOTHING if span is None else span.part(name, time.monotonic()) or NOTHING
