"""What the services serve right now: which model a request means, and under which digest. Pure."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from gateway.methods import Method
from maas.model.v1 import model_pb2
from services.runtime.store.labels import CANARY
from services.runtime.store.manifest import adapted_digest
from services.runtime.watchers import Watchers

Key = tuple[str, str]
Listener = Callable[[model_pb2.Model], None]


class Serving(NamedTuple):
    """A model version that answers."""

    model: str
    version: str
    digest: str
    chat_tells_time: bool = False


class ModelIndex:
    """The models of every service, as its stream of changes tells them."""

    def __init__(self, listener: Listener = lambda _: None) -> None:
        self._areas: dict[str, dict[Key, model_pb2.Model]] = {}
        self._listener = listener
        self._watchers: Watchers[model_pb2.Model] = Watchers()
        self._told: dict[str, asyncio.Event] = {}
        # Counts changes: while it stays, so does what `resolve` says.
        self.epoch = 0

    def replace(self, area: str, models: Iterable[model_pb2.Model]) -> None:
        """Takes a whole list; watchers hear only what differs."""
        before = self._areas.get(area, {})
        after = {_key(model): model for model in models}
        self._areas[area] = after
        for key, model in after.items():
            if before.get(key) != model:
                self._tell(model)
        for key in before.keys() - after.keys():
            gone = model_pb2.Model()
            gone.CopyFrom(before[key])
            gone.state = model_pb2.MODEL_STATE_UNLOADED
            self._tell(gone)
        self._first(area).set()

    def update(self, area: str, model: model_pb2.Model) -> None:
        """Takes one change."""
        self._areas.setdefault(area, {})[_key(model)] = model
        self._tell(model)

    def knows(self, area: str) -> bool:
        """Whether the service has told its list at least once."""
        return area in self._areas

    async def told(self, area: str) -> None:
        """Returns once the service has told its list."""
        await self._first(area).wait()

    def resolve(self, method: Method, request: Any) -> Serving | None:
        """What `request` will be answered by; None when that cannot be told yet, and never a guess."""
        return self._adapted(method, request, _meant(self._named(method, request), request.version))

    def canary(self, method: Method, request: Any) -> Serving | None:
        """The version labelled `canary` of the model that `request` names or means; None if there is none."""
        found = _one([m for m in self._named(method, request) if CANARY in m.version_labels])
        return self._adapted(method, request, found)

    def areas_of(self, name: str) -> list[str]:
        """The services that know a model."""
        return [area for area, models in self._areas.items() if any(m.name == name for m in models.values())]

    def serving_areas(self, name: str) -> list[str]:
        """The services that answer with a model."""
        return [area for area in self._areas if any(m.name == name for m in self._serving(area))]

    def names(self) -> list[str]:
        """Every model that some service knows."""
        return sorted({model.name for models in self._areas.values() for model in models.values()})

    def models(self) -> list[model_pb2.Model]:
        """All entries, service by service."""
        return [model for area in sorted(self._areas) for _, model in sorted(self._areas[area].items())]

    def changes(self) -> AbstractContextManager[AsyncIterator[model_pb2.Model]]:
        """Every change from the moment the block is entered, until the watches are ended."""
        return self._watchers.watch()

    def end_watches(self) -> None:
        """Ends every `changes`, also those that begin later."""
        self._watchers.end()

    def _first(self, area: str) -> asyncio.Event:
        return self._told.setdefault(area, asyncio.Event())

    def _serving(self, area: str) -> list[model_pb2.Model]:
        models = self._areas.get(area, {}).values()
        return [m for m in models if m.state == model_pb2.MODEL_STATE_SERVING]

    def _named(self, method: Method, request: Any) -> list[model_pb2.Model]:
        """Every version that answers of the model that `request` names or, as a default, means."""
        if request.model:
            return [m for m in self._serving(method.area) if m.name == request.model]
        task = method.task(request)
        return [m for m in self._serving(method.area) if task in m.default_for]

    def _adapted(self, method: Method, request: Any, found: Serving | None) -> Serving | None:
        """With the adapter that `request` asks for, if it does; None while that one is not known."""
        named = getattr(request, "adapter", "")
        if found is None or not named:
            return found
        name, _, version = named.partition("@")
        adapter = _meant([m for m in self._serving(method.area) if m.name == name], version)
        return adapter and found._replace(digest=adapted_digest(found.digest, adapter.digest))

    def _tell(self, model: model_pb2.Model) -> None:
        self.epoch += 1
        self._listener(model)
        self._watchers.tell(model)


def _key(model: model_pb2.Model) -> Key:
    return model.name, model.version


def _meant(found: list[model_pb2.Model], version: str) -> Serving | None:
    """Of one model's versions the one that a number, a label or "" means."""
    if version:
        return _one([m for m in found if version in (m.version, *m.version_labels)])
    return _one([m for m in found if m.answers_unversioned] or found)


def _one(found: list[model_pb2.Model]) -> Serving | None:
    """The version if it is the only one."""
    if len({(model.name, model.version) for model in found}) != 1:
        return None
    return Serving(found[0].name, found[0].version, found[0].digest, found[0].chat_tells_time)
