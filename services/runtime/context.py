"""What the floor knows of the call being served: id, deadline, tenant, trace. Knows no gRPC."""

import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from services.runtime.errors import DeadlinePassed

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
MAX_ID_LENGTH = 128


@dataclass(slots=True)
class RequestContext:
    """One call. `deadline` and `started` are time.monotonic() seconds; metadata keys are lower case."""

    method: str = ""
    request_id: str = ""
    deadline: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str = ""
    started: float = field(default_factory=time.monotonic)
    trailing: list[tuple[str, str]] = field(default_factory=list)

    def remaining_s(self) -> float | None:
        """Seconds the caller still waits; None without a deadline, never negative."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self.started) * 1000

    def check_deadline(self) -> None:
        """Raises DeadlinePassed when nobody waits any more."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlinePassed("the deadline passed before the work began")

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        """Metadata that travels on to the next service: request id and W3C trace context."""
        carried = [(REQUEST_ID, self.request_id)] if self.request_id else []
        carried += [(k, self.metadata[k]) for k in (TRACEPARENT, "tracestate") if k in self.metadata]
        return tuple(carried)


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
    return given if sane else secrets.token_hex(16)
