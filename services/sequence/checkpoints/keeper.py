"""Keeps sessions where any replica finds them, behind the streams' backs. Knows no Redis and no tensors.

A session belongs to the replica that holds its newest generation: whoever writes under an older one is told so,
and lets go of it. Nobody waits long: what cannot be written is written later, if the session is still here then.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from services.sequence.checkpoints.agenda import Agenda
from services.sequence.sessions import End, Key, Session, SessionTable, replaced

S = TypeVar("S")

MOST_AT_ONCE = 256
PAUSE_S, BROKEN_PAUSE_S = 0.05, 0.25
SETTLE_S = 5.0
TRIES = 3


class Fate(Enum):
    """What became of a checkpoint: it stands; another replica has the session; nobody knows."""

    KEPT = "kept"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Shot(Generic[S]):
    """A session at one moment; `state` None: it is closed. It is kept for `life_s` from now."""

    key: Key
    generation: int
    model: str
    version: str
    step: int
    state: S | None
    life_s: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """A session taken over: its generation from now, and what was written of it."""

    generation: int
    data: bytes


class Shelf(Protocol[S]):
    """Where sessions are kept."""

    @property
    def broken(self) -> bool:
        """Whether it gave no answer for some time."""

    async def write(self, shots: Sequence[Shot[S]]) -> list[int] | None:
        """The generation that each stands under now: its own, or a newer one, which stays. None: no answer."""

    async def claim(self, key: Key, generation: int, life_s: float) -> Claimed | None:
        """What is kept, under `generation` from now; without data where a newer one has it. None: nothing is.

        Raises Unavailable if there is no answer.
        """

    async def close(self) -> None:
        """Nothing is asked any more."""


class Keeper(Generic[S]):
    """Writes the sessions of `table`, many at once and one batch after the other."""

    shared = True

    def __init__(
        self,
        table: SessionTable[S],
        shelf: Shelf[S],
        agenda: Agenda[S],
        bound_s: float,
        count: Callable[[str], None],
    ) -> None:
        self._table, self._shelf, self._agenda = table, shelf, agenda
        self._bound_s, self._count = bound_s, count
        self._waiters: dict[Session[S], list[asyncio.Future[Fate]]] = {}
        self._woken = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def note(self, session: Session[S]) -> None:
        """The session has something new; it is written in a while."""
        if self._agenda.note(session):
            self._woken.set()

    def urge(self, session: Session[S]) -> None:
        """The session is written next."""
        self._agenda.urge(session)
        self._woken.set()

    async def save(self, session: Session[S], bound_s: float | None = None) -> Fate:
        """Writes what the session is now, and waits for that, but not long."""
        self.urge(session)
        if self._shelf.broken:
            return Fate.UNKNOWN
        waiter: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(session, []).append(waiter)
        try:
            async with asyncio.timeout(bound_s or self._bound_s):
                return await waiter
        except TimeoutError:
            return Fate.UNKNOWN

    async def claim(self, key: Key) -> Claimed | None:
        """Takes the session over from whoever has it. None if it is not kept. Raises Unavailable.

        PreconditionFailed if others take it over just as often.
        """
        for _ in range(TRIES):
            found = await self._shelf.claim(key, self._table.next_generation(), self._table.idle_s)
            if found is None or found.data:
                self._count("taken" if found else "unknown")
                return found
            self._table.see(found.generation)
        raise replaced(key)

    async def settle(self) -> None:
        """Writes all that waits now; tries again where that is not told, for as long as there is hope and time."""
        left = list(self._agenda.waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while left:
                    fates = await asyncio.gather(*(self.save(session, SETTLE_S) for session in left))
                    left = [one for one, fate in zip(left, fates, strict=True) if fate is Fate.UNKNOWN]
                    if left and self._shelf.broken:
                        return
                    await asyncio.sleep(PAUSE_S if left else 0)

    async def start(self) -> None:
        """From now on what is due is written."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Writes what waits, if it is taken, then lets go of the shelf."""
        self._closing = True
        self._woken.set()
        if self._task is not None:
            await self._task
        for session in self._agenda.waiting:
            self._agenda.urge(session)
        while len(self._agenda) and await self.flush():
            pass
        await self._shelf.close()

    async def flush(self) -> bool:
        """Writes what is due. False if there was no answer: then it is due later."""
        taken = self._agenda.take(MOST_AT_ONCE)
        waiters = {session: self._waiters.pop(session, []) for session in taken}
        shots = {session: shot for session in taken if (shot := self._shot(session))}
        # While nobody answers, one session is enough to ask with; the others wait on.
        asked = list(shots.values())[: 1 if self._shelf.broken else None]
        said = await self._shelf.write(asked) if asked else []
        told = dict(zip(shots, said or (), strict=False))
        for session in taken:
            fate = self._learn(session, shots.get(session), told.get(session))
            for waiter in waiters[session]:
                if not waiter.done():
                    waiter.set_result(fate)
        return said is not None

    async def _run(self) -> None:
        while not self._closing:
            try:
                async with asyncio.timeout(self._agenda.left_s()):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            if self._agenda.left_s() == 0 and not await self.flush():
                await asyncio.sleep(BROKEN_PAUSE_S if self._shelf.broken else PAUSE_S)

    def _shot(self, session: Session[S]) -> Shot[S] | None:
        """None for a session that is over, unless it is kept and others are to learn that it was closed."""
        life_s = self._table.idle_left_s(session)
        if session.end and (session.end is not End.CLOSED or session.saved_step is None or not life_s):
            return None
        number, state = session.generation, session.state
        return Shot(session.key, number, session.model, session.version, session.last_step, state, life_s)

    def _learn(self, session: Session[S], shot: Shot[S] | None, holder: int | None) -> Fate:
        if shot is None:
            return Fate.LOST
        if holder is None:
            self._agenda.note(session)
            return Fate.UNKNOWN
        if holder != shot.generation:
            self._count("lost")
            self._table.lose(session, holder)
            return Fate.LOST
        self._count("kept")
        session.saved_step = shot.step
        if session.end is None and session.last_step > shot.step:
            self._agenda.note(session)
        return Fate.KEPT


class Forgetful(Generic[S]):
    """Keeps nothing: sessions live and die with this process."""

    shared = False

    def note(self, session: Session[S]) -> None:
        """Nobody asks."""

    def urge(self, session: Session[S]) -> None:
        """Nobody asks."""

    async def save(self, session: Session[S], bound_s: float | None = None) -> Fate:
        """There is no other replica that could have it."""
        return Fate.KEPT if session.end is None else Fate.LOST

    async def claim(self, key: Key) -> Claimed | None:
        """There is none."""
        return None

    async def settle(self) -> None:
        """Nothing to write."""
