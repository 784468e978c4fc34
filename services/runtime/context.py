"""What the floor knows of the call being served: id, deadline, tenant, trace. Knows no gRPC."""

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from random import getrandbits
from typing import TYPE_CHECKING

from services.runtime.errors import DeadlinePassed
from services.runtime.identity.caller import ANYBODY, Caller
from services.runtime.identity.policy import CRITICAL, UNLIMITED, Rights
from services.runtime.toll import Bill

if TYPE_CHECKING:
    from services.runtime.tracing.span import Span

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
# The class of a call. One of the highest, or of none, may go before others, unless the gateway says it is usual.
PRIORITY, USUAL = "x-maas-priority", "default"
MAX_ID_LENGTH = 128

# W3C Trace Context, version 00: trace id, parent span id, flags; ids of zeros alone are invalid.
_TRACEPARENT = re.compile(r"^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$")


@dataclass(frozen=True, slots=True)
class Trace:
    """The caller's place in a distributed trace, and ours in it (W3C Trace Context level 1)."""

    trace_id: str
    span_id: str
    flags: str = "00"
    state: str = ""
    parent_id: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, str], sampled: bool = False) -> "Trace":
        """A child of the caller's span, or the root of a new trace, `sampled` or not."""
        given = _TRACEPARENT.match(metadata.get(TRACEPARENT, ""))
        if given is None:
            return cls(f"{getrandbits(128):032x}", new_span_id(), "01" if sampled else "00")
        return cls(given[1], new_span_id(), given[3], metadata.get(TRACESTATE, ""), given[2])

    @property
    def sampled(self) -> bool:
        return bool(int(self.flags, 16) & 1)

    def unsampled(self) -> "Trace":
        """The same place, of which nobody further on is to tell."""
        return replace(self, flags=f"{int(self.flags, 16) & ~1:02x}")

    def headers(self, span_id: str = "") -> list[tuple[str, str]]:
        """What travels to the next service, whose caller is our span or, if named, another of ours."""
        found = [(TRACEPARENT, f"00-{self.trace_id}-{span_id or self.span_id}-{self.flags}")]
        return [*found, (TRACESTATE, self.state)] if self.state else found


@dataclass(slots=True)
class RequestContext:
    """One call. `deadline` and `started` are time.monotonic() seconds; metadata keys are lower case."""

    method: str = ""
    request_id: str = ""
    deadline: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    caller: Caller = ANYBODY
    rights: Rights = UNLIMITED
    # Who counts the call, where calls are counted, and whether its answer was remembered: then it cost nothing.
    bill: Bill | None = None
    remembered: bool = False
    started: float = field(default_factory=time.monotonic)
    # What a unary reply says ahead of its message, and what any reply says after it.
    initial: list[tuple[str, str]] = field(default_factory=list)
    trailing: list[tuple[str, str | bytes]] = field(default_factory=list)
    _trace: Trace | None = None
    # Set while the call is traced; its parts hang on it.
    span: "Span | None" = None
    # Bytes of its messages so far.
    received: int = 0
    sent: int = 0
    # Where it comes from, as gRPC writes it.
    peer: str = ""

    @property
    def tenant(self) -> str:
        """Whose call it is; "" = of nobody in particular."""
        return self.caller.tenant

    @property
    def trace(self) -> Trace | None:
        """Our place in the caller's trace, made when first asked for: many a call ends here, untold."""
        if self._trace is None and self.request_id:
            self._trace = Trace.of(self.metadata)
        return self._trace

    def follow(self, trace: Trace, span: "Span | None" = None) -> None:
        """Takes its place in the caller's trace; with `span`, it is told."""
        self._trace, self.span = trace, span

    def part(self) -> "RequestContext":
        """The same call, for one message of its stream: its time begins now."""
        asked = (self.method, self.request_id, self.deadline, self.metadata)
        whose = (self.caller, self.rights, self.bill, self.remembered)
        told = (self.initial, self.trailing, self._trace, self.span)
        return RequestContext(*asked, *whose, time.monotonic(), *told, peer=self.peer)

    def remaining_s(self) -> float | None:
        """Seconds the caller still waits; None without a deadline, never negative."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def rank(self, wanted: int) -> int:
        """Its priority among others of its kind: above 0 only where the policy grants it `critical`, here and
        where it was let in. One that is lowered is told so."""
        if wanted <= 0 or self._may_rise():
            return wanted
        self.trailing.append((PRIORITY, USUAL))
        return 0

    def _may_rise(self) -> bool:
        claim = self.metadata.get(PRIORITY, CRITICAL)
        return claim == CRITICAL and self.rights.grants(self.method, CRITICAL)

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self.started) * 1000

    def check_deadline(self) -> None:
        """Raises DeadlinePassed when nobody waits any more."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlinePassed("the deadline passed before the work began")

    def outgoing(self, span_id: str = "") -> tuple[tuple[str, str], ...]:
        """Metadata that travels on to the next service: request id, W3C trace context, whose call it is, and that
        it may not rise above others.

        `span_id`: that of the call to it, where that is told.
        """
        carried = [(REQUEST_ID, self.request_id)] if self.request_id else []
        held = () if self._may_rise() else ((PRIORITY, USUAL),)
        return (*carried, *(self.trace.headers(span_id) if self.trace else ()), *self.caller.vouching, *held)


_current: ContextVar[RequestContext | None] = ContextVar("maas_request", default=None)


def current() -> RequestContext:
    """The call being served; an empty context outside of one."""
    return _current.get() or RequestContext()


def enter(request: RequestContext) -> None:
    """Makes `request` the current one for this task."""
    _current.set(request)


def request_id_from(metadata: Mapping[str, str]) -> str:
    """The caller's id if it is printable ASCII of sane length, else a fresh one of 128 bits."""
    given = metadata.get(REQUEST_ID, "")
    sane = 0 < len(given) <= MAX_ID_LENGTH and given.isascii() and given.isprintable()
    return given if sane else f"{getrandbits(128):032x}"


def new_span_id() -> str:
    """A span id of W3C trace context, which may not be zero. No secret, so no system call is made for it."""
    return f"{getrandbits(64) or 1:016x}"
