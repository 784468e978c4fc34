"""Which sessions are to be checkpointed next: so many steps or so much time after the last one. Pure policy."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from itertools import chain, islice, takewhile
from typing import Generic, TypeVar

from services.sequence.sessions import Session

S = TypeVar("S")


class Agenda(Generic[S]):
    """Sessions with something to write, first due first. Each stands here once, however much it has."""

    def __init__(self, clock: Callable[[], float], every_steps: int, every_s: float) -> None:
        self._clock, self._every_steps, self._every_s = clock, every_steps, every_s
        self._due: OrderedDict[Session[S], float] = OrderedDict()
        self._urgent: dict[Session[S], None] = {}

    def __len__(self) -> int:
        return len(self._due.keys() | self._urgent.keys())

    @property
    def waiting(self) -> Collection[Session[S]]:
        """Every session here."""
        return self._due.keys() | self._urgent.keys()

    def note(self, session: Session[S]) -> bool:
        """The session has something that is not kept yet: due at once if that is many steps, else in a while.

        True if something is due sooner than before.
        """
        if session.last_step - (session.saved_step or 0) >= self._every_steps:
            self.urge(session)
            return True
        self._due.setdefault(session, self._clock() + self._every_s)
        return len(self._due) == 1

    def urge(self, session: Session[S]) -> None:
        """The session is due now."""
        self._urgent[session] = None

    def take(self, most: int) -> list[Session[S]]:
        """Those that are due, off the agenda."""
        now = self._clock()
        late = (session for session, at in takewhile(lambda item: item[1] <= now, self._due.items()))
        chosen = list(islice(chain(self._urgent, (s for s in late if s not in self._urgent)), most))
        for session in chosen:
            self._urgent.pop(session, None)
            self._due.pop(session, None)
        return chosen

    def left_s(self) -> float | None:
        """Seconds until one is due; None if none ever is."""
        if self._urgent:
            return 0.0
        first = next(iter(self._due.values()), None)
        return None if first is None else max(0.0, first - self._clock())
