"""Life of the model versions of one area, and who watches it. Knows no store and no model in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from services.runtime.store.manifest import Manifest

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
        self._watchers: set[asyncio.Queue[Status | None]] = set()
        self._ended = False

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

    @contextmanager
    def watch(self) -> Iterator[AsyncIterator[Status]]:
        """Each change from the moment the block is entered, until the watches are ended."""
        queue: asyncio.Queue[Status | None] = asyncio.Queue()
        self._watchers.add(queue)
        if self._ended:
            queue.put_nowait(None)
        try:
            yield _until_none(queue)
        finally:
            self._watchers.discard(queue)

    def end_watches(self) -> None:
        """Ends every `watch`, also those begun later."""
        self._ended = True
        for queue in self._watchers:
            queue.put_nowait(None)

    def _tell(self, status: Status) -> None:
        self._listener(status)
        for queue in self._watchers:
            queue.put_nowait(status)


async def _until_none(queue: "asyncio.Queue[Status | None]") -> AsyncIterator[Status]:
    while (status := await queue.get()) is not None:
        yield status
