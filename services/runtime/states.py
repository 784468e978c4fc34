"""Life of the model versions of one area, and who watches it. Knows no store and no model in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from services.runtime.store.manifest import Manifest
from services.runtime.watchers import Watchers

Key = tuple[str, int]


class State(StrEnum):
    """Life of a version here; the names of maas.model.v1.ModelState."""

    AVAILABLE = "AVAILABLE"
    LOADING = "LOADING"
    SERVING = "SERVING"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Status:
    """A version's state, and why it is in it."""

    manifest: Manifest
    state: State
    reason: str = ""


Listener = Callable[[Status], None]


class States:
    """The status of every version that was ever loaded here; each change is told."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._known: dict[Key, Status] = {}
        self.watchers: Watchers[Status] = Watchers()

    def all(self) -> dict[Key, Status]:
        return dict(self._known)

    def get(self, name: str, version: int) -> Status | None:
        return self._known.get((name, version))

    def any_is(self, state: State, name: str) -> bool:
        """Whether some version of the model is in this state."""
        return any(known.state is state for key, known in self._known.items() if key[0] == name)

    def set(self, status: Status) -> None:
        self._known[status.manifest.name, status.manifest.version] = status
        self._tell(status)

    def retell(self, name: str, version: int) -> None:
        """Tells a status once more: not it has changed but what the version is used for."""
        if known := self._known.get((name, version)):
            self._tell(known)

    def _tell(self, status: Status) -> None:
        self._listener(status)
        self.watchers.tell(status)
