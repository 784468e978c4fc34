"""Who holds a session and how far it is. Pure policy: no torch, no gRPC, no clock of its own.

A session's state is opaque here. It is dropped on close and on expiry; an id that is opened anew gets fresh
state under a higher generation, and a handle of an older generation can do nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from services.runtime.errors import InvalidInput, Overloaded, PreconditionFailed, SessionNotFound

S = TypeVar("S")
Key = tuple[str, str]  # tenant, session id: one tenant's ids mean nothing to another


class End(Enum):
    """Why a session is over."""

    CLOSED = "closed"
    IDLE = "idle"
    REPLACED = "opened anew"


@dataclass(slots=True, eq=False)
class Session(Generic[S]):
    """One session. Once it has ended `state` is None and `over` is set; `turn` is held for a step's length."""

    key: Key
    model: str
    version: str
    generation: int
    state: S | None
    last_used: float
    last_step: int = 0
    end: End | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session_id(self) -> str:
        return self.key[1]


class SessionTable(Generic[S]):
    """Every live session of this process, least recently used first."""

    def __init__(self, clock: Callable[[], float], idle_s: float, limit: int) -> None:
        self._clock, self.idle_s, self._limit = clock, idle_s, limit
        self._live: OrderedDict[Key, Session[S]] = OrderedDict()
        self._generation = 0

    def __len__(self) -> int:
        return len(self._live)

    def open(self, key: Key, model: str, version: str, state: S) -> Session[S]:
        """A new session at step 0; one of the same key ends first. Overloaded when the table is full."""
        self.expire()
        if (old := self._live.get(key)) is not None:
            self._finish(old, End.REPLACED)
        if len(self._live) >= self._limit:
            raise Overloaded(
                f"{self._limit} sessions are open, the limit of this server; close some or retry later",
                reason="SESSION_LIMIT",
                metadata={"limit": str(self._limit)},
                retry_after_s=self._soonest_expiry_s(),
            )
        self._generation += 1
        session = Session(key, model, version, self._generation, state, self._clock())
        self._live[key] = session
        return session

    def resume(self, key: Key) -> Session[S]:
        """The live session of `key`, its idle time begun anew. SessionNotFound if there is none (any more)."""
        self.expire()
        if key not in self._live:
            raise _unknown(key[1])
        session = self._live[key]
        self._touch(session)
        return session

    def begin(self, session: Session[S], step: int) -> S:
        """The state that `step` starts from. Raises if the session is over or another step is due."""
        self.expire()
        if session.state is None:
            raise _over(session)
        if step != session.last_step + 1:
            raise InvalidInput("step.step", f"is {step}; this session's next step is {session.last_step + 1}")
        self._touch(session)
        return session.state

    def commit(self, session: Session[S], state: S) -> None:
        """The step that began is done: keep its state. Raises if the session ended meanwhile."""
        if session.state is None:
            raise _over(session)
        session.state, session.last_step = state, session.last_step + 1
        self._touch(session)

    def close(self, session: Session[S]) -> None:
        """Forget the session and its state. A session that is over stays as it ended."""
        if session.end is None:
            self._finish(session, End.CLOSED)

    def idle_left_s(self, session: Session[S]) -> float:
        """Seconds until the session expires if nothing uses it; never negative."""
        return max(0.0, session.last_used + self.idle_s - self._clock())

    def expire(self) -> list[Session[S]]:
        """End the sessions whose idle time is up."""
        expired = list(self._idle())
        for session in expired:
            self._finish(session, End.IDLE)
        return expired

    def _idle(self) -> Iterator[Session[S]]:
        for session in self._live.values():
            if session.turn.locked():
                continue
            if self.idle_left_s(session) > 0:
                return
            yield session

    def _touch(self, session: Session[S]) -> None:
        session.last_used = self._clock()
        self._live.move_to_end(session.key)

    def _finish(self, session: Session[S], end: End) -> None:
        del self._live[session.key]
        session.state, session.end = None, end
        session.over.set()

    def _soonest_expiry_s(self) -> float:
        return max(1.0, self.idle_left_s(next(iter(self._live.values()))))


def _over(session: Session[S]) -> SessionNotFound | PreconditionFailed:
    if session.end is End.REPLACED:
        return PreconditionFailed(
            f"session {session.session_id!r} was opened anew elsewhere; this handle is outdated",
            reason="SESSION_REPLACED",
        )
    return _unknown(session.session_id)


def _unknown(session_id: str) -> SessionNotFound:
    """Names no other session: their ids are their owners' affair."""
    error = SessionNotFound("session", session_id)
    error.message = f"session {session_id!r} is unknown, closed or expired; open it anew"
    return error
