"""Models in memory: hot load, routes, unload and drain. Knows manifests and leases, not what a model computes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed, ServiceError, Unavailable
from services.runtime.routes import Route, Routes
from services.runtime.states import Key, Listener, State, States, Status
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


@dataclass(slots=True)
class _Slot(Generic[M]):
    """A model and how many use it. Each use is a block; a generator would cost every call twice as much."""

    model: M
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> M:
        self.users += 1
        return self.model

    def __exit__(self, *error: object) -> None:
        self.users -= 1
        if not self.users:
            self.idle.set()


class ModelHost(Generic[M]):
    """The versions of one service area that answer, which of them a call means, and who is using them."""

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
        self._load, self._reads = load, reads
        self._slots: dict[Key, _Slot[M]] = {}
        self._routes = Routes()
        self._states = States(listener)
        # Manifests of what was never loaded; a published one never changes, so each is read once.
        self._unused: dict[Key, Manifest | None] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._loading: set[asyncio.Task[Manifest]] = set()
        self._lock = asyncio.Lock()
        # False until the store was followed once: what is not there yet may be about to load.
        self.settled = False

    def lease(self, model: str, version: str, task: str) -> AbstractContextManager[M]:
        """The model for the length of a call; it is not closed meanwhile.

        `model` empty = the default of `task` (itself empty = any); `version` empty = the one that was pointed
        at, else a number or a label.
        Raises ModelNotFound, Unavailable while it loads, PreconditionFailed where its load failed, InvalidInput
        for a model of another task.
        """
        slot = self._find(model or self._default(task), version)
        if task and task not in slot.model.manifest.tasks:
            have = ", ".join(slot.model.manifest.tasks)
            raise InvalidInput("model", f"{slot.model.manifest.name} does not serve {task}; it serves {have}")
        return slot

    async def load(self, name: str, version: str = "") -> Manifest:
        """Verifies, builds and warms up a version beside what is loaded; a model's first answers for it at once.

        The work is the host's own: a caller who leaves does not end it.
        Raises ModelNotFound, or PreconditionFailed saying why the load failed.
        """
        task = asyncio.create_task(self._load_beside(name, version))
        self._loading.add(task)
        task.add_done_callback(self._loaded)
        return await asyncio.shield(task)

    def point(self, name: str, version: int, labels: Mapping[str, int]) -> None:
        """From now on calls without a version mean this loaded one, and labels what they stand for.

        A label whose target is not loaded stays where it is, if that is loaded.
        """
        for changed in self._routes.point(name, version, labels, self.versions(name)):
            self._states.retell(name, changed)

    def retain(self, name: str, versions: Collection[int]) -> None:
        """Retires every loaded version but these and those that calls are pointed at."""
        route = self._routes.of(name)
        for version in self.versions(name):
            if version not in {*versions, route.unversioned, *route.labels.values()}:
                self._retire((name, version), State.AVAILABLE)

    def give_up(self, manifest: Manifest, reason: str) -> None:
        """A loaded version that broke answers no more: calls end Unavailable until who follows the store has
        loaded it anew."""
        if (key := (manifest.name, manifest.version)) in self._slots:
            self._retire(key, State.UNLOADED)
            if not self.versions(manifest.name):
                self._routes.drop(manifest.name)
            self._states.set(Status(manifest, State.LOADING, reason))

    async def unload(self, name: str) -> None:
        """Stops serving a model once its calls end. Raises ModelNotFound if it is not loaded."""
        async with self._lock:
            if not (versions := self.versions(name)):
                raise ModelNotFound("loaded model", name, self.loaded())
            self._routes.drop(name)
            for version in versions:
                self._retire((name, version), State.UNLOADED)

    def loaded(self) -> list[str]:
        """Names that answer now."""
        return self._routes.names()

    def versions(self, name: str) -> list[int]:
        """The loaded versions of a model, ascending."""
        return sorted(version for known, version in self._slots if known == name)

    def serving_version(self, name: str) -> int | None:
        """The version that answers calls naming none."""
        return self.number(name, "")

    def number(self, name: str, version: str) -> int | None:
        """The version that "", a number or a label means here now; None if that is nothing known."""
        return self._routes.number(name, version)

    def route(self, name: str) -> Route:
        """What calls to a model mean here now."""
        return self._routes.of(name)

    def statuses(self) -> list[Status]:
        """Every version of the store that this area can serve, and every other one that is still in use."""
        known = self._states.all()
        stored = [(name, version) for name in self.store.names() for version in self.store.versions(name)]
        self._unused = {key: self._unused.get(key) or self._readable(*key) for key in stored if key not in known}
        for key in known.keys() - set(stored):
            if known[key].state not in (State.LOADING, State.SERVING, State.DRAINING):
                del known[key]
        for key, manifest in self._unused.items():
            if manifest and manifest.serves(self.area):
                known[key] = Status(manifest, State.AVAILABLE)
        return [known[key] for key in sorted(known)]

    def status(self, manifest: Manifest) -> Status:
        """That of one version of the store. Raises InvalidInput for a version of another area."""
        self.check_area(manifest)
        return self._states.get(manifest.name, manifest.version) or Status(manifest, State.AVAILABLE)

    def check_area(self, manifest: Manifest) -> None:
        """Raises InvalidInput unless this area serves the version."""
        if not manifest.serves(self.area):
            tasks = ", ".join(manifest.tasks)
            raise InvalidInput("model", f"{manifest.name} serves {tasks}, nothing of {self.area}")

    def watch(self) -> AbstractContextManager[AsyncIterator[Status]]:
        """Each change from the moment the block is entered, until the watches are ended."""
        return self._states.watchers.watch()

    def end_watches(self) -> None:
        """Ends every `watch`, also those begun later."""
        self._states.watchers.end()

    async def close(self) -> None:
        """Retires everything and waits for it."""
        for task in self._loading:
            task.cancel()
        await asyncio.gather(*self._loading, return_exceptions=True)
        for name, version in list(self._slots):
            self._routes.drop(name)
            self._retire((name, version), State.UNLOADED)
        while self._draining:
            await asyncio.wait(self._draining)

    def _default(self, task: str) -> str:
        name = self.defaults.get(task)
        if not name:
            raise ModelNotFound("default model for", task, self.loaded(), reason="NO_DEFAULT_MODEL")
        return name

    def _find(self, name: str, version: str) -> _Slot[M]:
        number = self.number(name, version)
        slot = self._slots.get((name, number)) if number is not None else None
        if slot is None:
            raise self._why_not(name, version, number)
        return slot

    def _why_not(self, name: str, version: str, number: int | None) -> ServiceError:
        """Why a version does not answer."""
        status = self._states.get(name, number) if number is not None else None
        loading = status.state is State.LOADING if status else self._states.any_is(State.LOADING, name)
        if loading or (not self.settled and name in self.store.names()):
            text = f"model {name!r} is loading; retry shortly"
            return Unavailable(text, reason="MODEL_LOADING", retry_after_s=1.0)
        if status is not None and status.state is State.FAILED:
            return _load_failed(status.manifest, status.reason)
        if version and name in self.loaded():
            have = [*map(str, self.versions(name)), *self.route(name).labels]
            return ModelNotFound(f"version of model {name!r}", version, have)
        return ModelNotFound("model", name, self.loaded())

    async def _load_beside(self, name: str, version: str) -> Manifest:
        async with self._lock:
            manifest = self.store.resolve(name, version)
            self.check_area(manifest)
            key = (manifest.name, manifest.version)
            if key not in self._slots:
                self._slots[key] = slot = _Slot(await self._open(manifest))
                if self.serving_version(name) is None:
                    self._routes.point(name, manifest.version, {}, ())
                self._states.set(Status(slot.model.manifest, State.SERVING))
            # As it answers: settings may force another runner.
            return self._slots[key].model.manifest

    def _loaded(self, task: "asyncio.Task[Manifest]") -> None:
        self._loading.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left: `_open` has told the status and the log

    async def _open(self, manifest: Manifest) -> M:
        self._states.set(Status(manifest, State.LOADING))
        try:
            await asyncio.to_thread(self.store.verify, manifest, self._reads(manifest))
            return await self._build(manifest)
        except asyncio.CancelledError:
            self._states.set(Status(manifest, State.FAILED, "the load was cancelled"))
            raise
        except Exception as error:
            log.exception("load failed", extra={"model": manifest.name, "version": manifest.version})
            reason = error.message if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
            self._states.set(Status(manifest, State.FAILED, reason))
            raise _load_failed(manifest, reason) from error

    async def _build(self, manifest: Manifest) -> M:
        model = await self._load(manifest, self.store.directory(manifest))
        try:
            await model.warm_up()
        except BaseException:
            await model.close()
            raise
        return model

    def _retire(self, key: Key, after: State) -> None:
        slot = self._slots.pop(key)
        self._states.set(Status(slot.model.manifest, State.DRAINING))
        task = asyncio.create_task(self._drain(slot, after))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, slot: _Slot[M], after: State) -> None:
        while slot.users:
            slot.idle.clear()
            await slot.idle.wait()
        await slot.model.close()
        manifest = slot.model.manifest
        status = self._states.get(manifest.name, manifest.version)
        # Unless it is loaded again by now, or about to be.
        if status and status.state is State.DRAINING:
            self._states.set(Status(manifest, after))

    def _readable(self, name: str, version: int) -> Manifest | None:
        try:
            return self.store.manifest(name, version)
        except ServiceError:
            # Damaged, or removed between listing and reading.
            return None


def _load_failed(manifest: Manifest, reason: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"loading {manifest.name} version {manifest.version} failed: {reason}", reason="LOAD_FAILED"
    )
