"""Models in memory: hot load, swap, unload and drain. Knows manifests and leases, not what a model computes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed, ServiceError, Unavailable
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore

log = logging.getLogger("maas.models")


class Loaded(Protocol):
    """What a service keeps of a model version."""

    @property
    def manifest(self) -> Manifest: ...

    async def warm_up(self) -> None:
        """Answers a sample and checks the answer; raises if it is not sane."""

    async def close(self) -> None:
        """Ends what is accepted, frees memory."""


M = TypeVar("M", bound=Loaded)


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


@dataclass(slots=True)
class _Slot(Generic[M]):
    model: M
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


Listener = Callable[[Status], None]


class ModelHost(Generic[M]):
    """The versions of one service area that answer, and who is using them."""

    def __init__(
        self,
        store: ModelStore,
        area: str,
        load: Callable[[Manifest, Path], Awaitable[M]],
        defaults: Mapping[str, str],
        listener: Listener = lambda _: None,
        reads: Callable[[Manifest], Collection[str]] = lambda manifest: manifest.files,
    ) -> None:
        """`reads` names the files that `load` opens, and so the ones whose hashes matter here."""
        self.store, self.area, self.defaults = store, area, dict(defaults)
        self._load, self._listener, self._reads = load, listener, reads
        self._slots: dict[tuple[str, int], _Slot[M]] = {}
        self._serving: dict[str, int] = {}
        self._statuses: dict[tuple[str, int], Status] = {}
        self._watchers: set[asyncio.Queue[Status | None]] = set()
        self._draining: set[asyncio.Task[None]] = set()
        self._loading: set[asyncio.Task[Manifest]] = set()
        self._lock = asyncio.Lock()
        self._watches_ended = False
        # False until the store was followed once: what is not there yet may be about to load.
        self.settled = False

    @contextmanager
    def lease(self, model: str, version: str, task: str) -> Iterator[M]:
        """The model for the length of a call; it is not closed meanwhile.

        `model` empty = the default of `task` (itself empty = any); `version` empty = the one that serves,
        else a number or a label.
        Raises ModelNotFound, Unavailable while it loads, InvalidInput for a model of another task.
        """
        slot = self._find(model or self._default(task), version)
        if task and task not in slot.model.manifest.tasks:
            have = ", ".join(slot.model.manifest.tasks)
            raise InvalidInput("model", f"{slot.model.manifest.name} does not serve {task}; it serves {have}")
        slot.users += 1
        try:
            yield slot.model
        finally:
            slot.users -= 1
            if not slot.users:
                slot.idle.set()

    async def load(self, name: str, version: str = "") -> Manifest:
        """Verifies, builds, warms up and swaps in a version; a failure leaves the old one serving.

        The work is the host's own: a caller who leaves does not end it.
        Raises ModelNotFound, or PreconditionFailed saying why the load failed.
        """
        task = asyncio.create_task(self._load_and_swap(name, version))
        self._loading.add(task)
        task.add_done_callback(self._loaded)
        return await asyncio.shield(task)

    async def unload(self, name: str, version: str = "") -> None:
        """Stops serving a model (or one version) once its calls end. Raises ModelNotFound if it is not loaded."""
        async with self._lock:
            wanted = self.store.resolve(name, version).version if version else None
            keys = [key for key in self._slots if key[0] == name and wanted in (None, key[1])]
            if not keys:
                raise ModelNotFound("loaded model", name, self.loaded())
            for key in keys:
                self._retire(key, State.UNLOADED)

    async def _load_and_swap(self, name: str, version: str) -> Manifest:
        async with self._lock:
            manifest = self.store.resolve(name, version)
            if not manifest.serves(self.area):
                raise InvalidInput("model", f"{name} serves {', '.join(manifest.tasks)}, nothing of {self.area}")
            key = (manifest.name, manifest.version)
            if key not in self._slots:
                self._slots[key] = _Slot(await self._open(manifest))
            served = self._slots[key].model.manifest  # as it answers: settings may force another runner
            self._swap(served)
            return served

    def _loaded(self, task: "asyncio.Task[Manifest]") -> None:
        self._loading.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left: `_open` has told the status and the log

    def loaded(self) -> list[str]:
        """Names that answer now."""
        return sorted(self._serving)

    def serving_version(self, name: str) -> int | None:
        return self._serving.get(name)

    def statuses(self) -> list[Status]:
        """Every version of the store that this area can serve, and every one ever loaded here."""
        known = dict(self._statuses)
        for name in self.store.names():
            for version in self.store.versions(name):
                if (name, version) not in known and (found := self._available(name, version)):
                    known[name, version] = found
        return [known[key] for key in sorted(known)]

    @contextmanager
    def watch(self) -> Iterator[AsyncIterator[Status]]:
        """Each change from the moment the block is entered, until the watches are ended."""
        queue: asyncio.Queue[Status | None] = asyncio.Queue()
        self._watchers.add(queue)
        if self._watches_ended:
            queue.put_nowait(None)
        try:
            yield _until_none(queue)
        finally:
            self._watchers.discard(queue)

    def end_watches(self) -> None:
        """Ends every `watch`, also those begun later."""
        self._watches_ended = True
        for queue in self._watchers:
            queue.put_nowait(None)

    async def close(self) -> None:
        """Retires everything and waits for it."""
        for task in self._loading:
            task.cancel()
        await asyncio.gather(*self._loading, return_exceptions=True)
        for key in list(self._slots):
            self._retire(key, State.UNLOADED)
        while self._draining:
            await asyncio.wait(self._draining)

    def _default(self, task: str) -> str:
        name = self.defaults.get(task)
        if not name:
            raise ModelNotFound("default model for", task, self.loaded(), reason="NO_DEFAULT_MODEL")
        return name

    def _find(self, name: str, version: str) -> _Slot[M]:
        number = self._serving.get(name)
        if version and name in {key[0] for key in self._slots}:
            number = self._number(name, version)
        slot = self._slots.get((name, number)) if number is not None else None
        if slot is not None:
            return slot
        if self._is_coming(name):
            raise Unavailable(
                f"model {name!r} is loading; retry shortly", reason="MODEL_LOADING", retry_after_s=1.0
            )
        if version and name in self._serving:
            have = [str(key[1]) for key in self._slots if key[0] == name]
            raise ModelNotFound(f"version of model {name!r}", version, have)
        raise ModelNotFound("model", name, self.loaded())

    def _is_coming(self, name: str) -> bool:
        loading = any(s.state is State.LOADING for key, s in self._statuses.items() if key[0] == name)
        return loading or (not self.settled and name in self.store.names())

    def _number(self, name: str, version: str) -> int:
        if version.isascii() and version.isdecimal() and len(version) < 10:
            return int(version)
        return self.store.labels(name).get(version, -1)

    async def _open(self, manifest: Manifest) -> M:
        self._set(Status(manifest, State.LOADING))
        try:
            await asyncio.to_thread(self.store.verify, manifest, self._reads(manifest))
            return await self._build(manifest)
        except asyncio.CancelledError:
            self._set(Status(manifest, State.FAILED, "the load was cancelled"))
            raise
        except Exception as error:
            log.exception("load failed", extra={"model": manifest.name, "version": manifest.version})
            reason = error.message if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
            self._set(Status(manifest, State.FAILED, reason))
            raise PreconditionFailed(
                f"loading {manifest.name} version {manifest.version} failed: {reason}", reason="LOAD_FAILED"
            ) from error

    async def _build(self, manifest: Manifest) -> M:
        model = await self._load(manifest, self.store.directory(manifest))
        try:
            await model.warm_up()
        except BaseException:
            await model.close()
            raise
        return model

    def _swap(self, manifest: Manifest) -> None:
        before = self._serving.get(manifest.name)
        self._serving[manifest.name] = manifest.version
        self._set(Status(manifest, State.SERVING))
        if before is not None and before != manifest.version:
            self._retire((manifest.name, before), State.AVAILABLE)

    def _retire(self, key: tuple[str, int], after: State) -> None:
        slot = self._slots.pop(key)
        if self._serving.get(key[0]) == key[1]:
            del self._serving[key[0]]
        self._set(Status(slot.model.manifest, State.DRAINING))
        task = asyncio.create_task(self._drain(slot, after))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, slot: _Slot[M], after: State) -> None:
        while slot.users:
            slot.idle.clear()
            await slot.idle.wait()
        await slot.model.close()
        manifest = slot.model.manifest
        if (manifest.name, manifest.version) not in self._slots:
            self._set(Status(manifest, after))

    def _available(self, name: str, version: int) -> Status | None:
        try:
            manifest = self.store.manifest(name, version)
        except ServiceError:
            # Removed between listing and reading.
            return None
        return Status(manifest, State.AVAILABLE) if manifest.serves(self.area) else None

    def _set(self, status: Status) -> None:
        self._statuses[status.manifest.name, status.manifest.version] = status
        self._listener(status)
        for queue in self._watchers:
            queue.put_nowait(status)


async def _until_none(queue: "asyncio.Queue[Status | None]") -> AsyncIterator[Status]:
    while (status := await queue.get()) is not None:
        yield status
