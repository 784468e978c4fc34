"""Who holds a session and how far it is. Pure policy: no torch, no gRPC, no clock of its own.

A session's state is opaque here. It is dropped on close and on expiry. An id that is opened anew, or goes on at
another replica, does so under a higher generation, and a handle of an older one can do nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from services.runtime.errors import InvalidInput, PreconditionFailed, SessionNotFound
from services.sequence.house import House

S = TypeVar("S")
Key = tuple[str, str]  # tenant, session id: one tenant's ids mean nothing to another


class End(Enum):
    """Why a session is over."""

    CLOSED = "closed"
    IDLE = "idle"
    REPLACED = "opened anew or taken over"
    DROPPED = "its version is gone here"


@dataclass(slots=True, eq=False)
class Session(Generic[S]):
    """One session. Once it has ended `state` is None and `over` is set; `turn` is held for a step's length.

    `saved_step`: the last one that outlives this process; None where not even the opening does.
    """

    key: Key
    model: str
    version: str
    generation: int
    state: S | None
    last_used: float
    last_step: int = 0
    saved_step: int | None = None
    end: End | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session_id(self) -> str:
        return self.key[1]


class SessionTable(Generic[S]):
    """Every live session of this process, least recently used first."""

    def __init__(
        self,
        clock: Callable[[], float],
        idle_s: float,
        limit: int,
        epoch: Callable[[], int] = lambda: 0,
        limit_of_one: int = 0,
    ) -> None:
        """`epoch`: generations are no lower than it; replicas that share sessions share it, more or less.

        `limit_of_one`: sessions of one tenant; 0 = as many as there may be.
        """
        self._clock, self.idle_s, self._house = clock, idle_s, House(limit, limit_of_one)
        self._live: OrderedDict[Key, Session[S]] = OrderedDict()
        self._generation, self._epoch = 0, epoch

    def __len__(self) -> int:
        return len(self._live)

    def open(self, key: Key, model: str, version: str, state: S) -> Session[S]:
        """A new session at step 0; one of the same key ends first. Overloaded when the table is full."""
        return self._begin(Session(key, model, version, self.next_generation(), state, self._clock()))

    def adopt(
        self, key: Key, model: str, version: str, generation: int, step: int, state: S, saved_step: int | None
    ) -> Session[S]:
        """Goes on with a session after `step`; one of the same key ends first.

        PreconditionFailed if that one has a higher generation, Overloaded when the table is full.
        """
        if (live := self.get(key)) is not None and live.generation > generation:
            raise replaced(key)
        return self._begin(Session(key, model, version, generation, state, self._clock(), step, saved_step))

    def renew(self, session: Session[S]) -> Session[S]:
        """The same session under a new handle; the old one is over. Raises if it was over before."""
        if session.state is None:
            raise _over(session)
        step, saved = session.last_step, session.saved_step
        return self.adopt(
            session.key, session.model, session.version, session.generation, step, session.state, saved
        )

    def get(self, key: Key) -> Session[S] | None:
        """The live session of `key`, if it is here."""
        self.expire()
        return self._live.get(key)

    def resume(self, key: Key) -> Session[S]:
        """The live session of `key`, its idle time begun anew. SessionNotFound if there is none (any more)."""
        if (session := self.get(key)) is None:
            raise unknown(key)
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
        self._finish(session, End.CLOSED)

    def drop(self, session: Session[S]) -> None:
        """Forget the session here: nothing here can go on with it."""
        self._finish(session, End.DROPPED)

    def lose(self, session: Session[S], generation: int) -> None:
        """Another replica goes on with the session, as `generation`."""
        self.see(generation)
        self._finish(session, End.REPLACED)

    def see(self, generation: int) -> None:
        """There is such a generation elsewhere: the next one made here is higher."""
        self._generation = max(self._generation, generation)

    def next_generation(self) -> int:
        """Higher than all that were made or seen here."""
        self._generation = max(self._generation + 1, self._epoch())
        return self._generation

    def idle_left_s(self, session: Session[S]) -> float:
        """Seconds until the session expires if nothing uses it; never negative."""
        return max(0.0, session.last_used + self.idle_s - self._clock())

    def expire(self) -> list[Session[S]]:
        """End the sessions whose idle time is up."""
        expired = list(self._idle())
        for session in expired:
            self._finish(session, End.IDLE)
        return expired

    def _begin(self, session: Session[S]) -> Session[S]:
        self.expire()
        if (old := self._live.get(session.key)) is not None:
            self._finish(old, End.REPLACED)
        self._house.enter(session.key[0], self._soonest_expiry_s)
        self._live[session.key] = session
        return session

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
        if session.end is not None:
            return
        del self._live[session.key]
        self._house.leave(session.key[0])
        session.state, session.end = None, end
        session.over.set()

    def _soonest_expiry_s(self) -> float:
        return max(1.0, self.idle_left_s(next(iter(self._live.values()))))


def _over(session: Session[S]) -> SessionNotFound | PreconditionFailed:
    return replaced(session.key) if session.end is End.REPLACED else unknown(session.key)


def replaced(key: Key) -> PreconditionFailed:
    """Somebody opened the session anew, or goes on with it elsewhere."""
    return PreconditionFailed(
        f"session {key[1]!r} was opened anew or resumed elsewhere; this handle is outdated",
        reason="SESSION_REPLACED",
    )


def unknown(key: Key) -> SessionNotFound:
    """Names no other session: their ids are their owners' affair."""
    error = SessionNotFound("session", key[1])
    error.message = f"session {key[1]!r} is unknown, closed or expired; open it anew"
    return error
