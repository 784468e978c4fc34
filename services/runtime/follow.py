"""Keeps a host in step with the store: new versions, labels, and what an administrator asked of one worker or
replica, which reaches all of them through a small desired-state file beside the models."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from services.runtime.errors import ModelNotFound, PreconditionFailed, ServiceError
from services.runtime.host import ModelHost
from services.runtime.store.desired import Choice, Desired
from services.runtime.store.manifest import Manifest
from services.runtime.store.paths import check_label
from services.runtime.wish import Wish, wish

log = logging.getLogger("maas.models")


class Follower:
    """Compares store and desired state with what is loaded; `sync` makes them equal."""

    def __init__(self, host: ModelHost[Any]) -> None:
        self.host = host
        self.desired = Desired(host.store.root, host.area)
        # Per model the wish last followed, and the versions that failed since: not tried again until it changes.
        self._wishes: dict[str, Wish] = {}
        self._failed: set[tuple[str, int]] = set()
        # Whether a version is this area's business; a published manifest never changes.
        self._mine: dict[tuple[str, int], bool] = {}
        # Damaged files that were already logged.
        self._unreadable: set[str] = set()
        # One act at a time, its wish read inside: a slow sync must not undo what was asked for meanwhile.
        self._acting = asyncio.Lock()

    async def sync(self) -> None:
        """Loads what should serve and is not, points calls at it, unloads what should not."""
        for name in await asyncio.to_thread(self.host.store.names):
            async with self._acting:
                await self._act(name)
        self.host.settled = True

    async def run(self, every_s: float) -> None:
        """Follows the store until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.sync()
            except Exception:
                log.exception("the store could not be followed; trying again")

    async def choose(self, name: str, version: str) -> None:
        """An administrator's load: here now, elsewhere at the next look. Empty: what the labels and the store say.

        Raises ModelNotFound, InvalidInput for a model of another area, PreconditionFailed if it does not load.
        """
        async with self._acting:
            manifest = await asyncio.to_thread(self._meant, name, version)
            # Before the load: what is published during it is newer than this choice.
            choice = Choice(manifest.version, self._newest(name))
            await self.host.load(name, str(manifest.version))
            if version:
                await asyncio.to_thread(self.desired.write, name, choice)
            else:
                await asyncio.to_thread(self.desired.forget, name)
            await self._act(name)

    async def drop(self, name: str, version: str) -> None:
        """An administrator's unload: here now, elsewhere at the next look.

        Raises ModelNotFound, or PreconditionFailed for one of several versions that are kept loaded.
        """
        async with self._acting:
            self._check_alone(name, version)
            await self.host.unload(name)
            await asyncio.to_thread(self.desired.write, name, Choice(None, self._newest(name)))

    async def label(self, name: str, label: str, version: str) -> None:
        """Points a label at a version (empty: drops it): here now, elsewhere at the next look.

        Raises ModelNotFound, InvalidInput for a name that is no label or a model of another area,
        PreconditionFailed if the version does not load; then the label stays where it was.
        """
        check_label(label)
        async with self._acting:
            manifest = await asyncio.to_thread(self._meant, name, version)
            self.host.check_area(manifest)
            if version:
                await self.host.load(name, str(manifest.version))
            await asyncio.to_thread(self.host.store.set_label, name, label, manifest.version if version else None)
            await self._act(name)

    def _newest(self, name: str) -> int:
        """The newest version in the store; 0 where all are removed."""
        return max(self.host.store.versions(name), default=0)

    async def _act(self, name: str) -> None:
        wanted = await asyncio.to_thread(self._wish, name)
        if wanted is None:
            return
        if wanted != self._wishes.get(name):
            self._wishes[name] = wanted
            self._failed = {key for key in self._failed if key[0] != name}
        if wanted.unversioned is not None:
            await self._fulfil(name, wanted)
        elif self.host.versions(name):
            await self.host.unload(name)

    async def _fulfil(self, name: str, wanted: Wish) -> None:
        version = await self._answering(name, wanted)
        if version is None:
            return
        # First what is ready, so that a slow load beside it does not hold it up.
        self.host.point(name, version, wanted.labels)
        for beside in wanted.beside:
            await self._load(name, beside)
        self.host.point(name, version, wanted.labels)
        self.host.retain(name, {version, *wanted.beside})

    async def _answering(self, name: str, wanted: Wish) -> int | None:
        """The version for calls that name none: the wanted one; if that is broken what serves, else another."""
        assert wanted.unversioned is not None
        if await self._load(name, wanted.unversioned):
            return wanted.unversioned
        if (serving := self.host.serving_version(name)) is not None:
            return serving
        for version in wanted.others:
            if await self._load(name, version):
                return version
        return None

    async def _load(self, name: str, version: int) -> bool:
        """Whether the version is loaded now."""
        if version in self.host.versions(name):
            return True
        if (name, version) in self._failed:
            return False
        try:
            await self.host.load(name, str(version))
        except ServiceError:
            self._failed.add((name, version))
            return False
        return True

    def _wish(self, name: str) -> Wish | None:
        """What should be loaded of a model; None if it is not this area's or nothing of it can be read."""
        versions = [version for version in self.host.store.versions(name) if self._is_mine(name, version)]
        return wish(versions, self._labels(name), self._choice(name)) if versions else None

    def _meant(self, name: str, version: str) -> Manifest:
        """The version that an administrator's load means."""
        if not version and (versions := [v for v in self.host.store.versions(name) if self._is_mine(name, v)]):
            return self.host.store.manifest(name, wish(versions, self._labels(name), None).unversioned or 0)
        return self.host.store.resolve(name, version)

    def _is_mine(self, name: str, version: int) -> bool:
        """Whether this area serves the version. One damaged version must not stop the others."""
        key = (name, version)
        try:
            if key not in self._mine:
                self._mine[key] = self.host.store.manifest(name, version).serves(self.host.area)
            return self._mine[key]
        except ServiceError as error:
            self._log_once(name, error)
            return False

    def _labels(self, name: str) -> Mapping[str, int]:
        """The labels in the store; while they cannot be read those that hold here."""
        try:
            return self.host.store.labels(name)
        except ServiceError as error:
            self._log_once(name, error)
            return self.host.route(name).labels

    def _choice(self, name: str) -> Choice | None:
        """What an administrator chose; nothing while that cannot be read."""
        try:
            return self.desired.choice(name)
        except ServiceError as error:
            self._log_once(name, error)
            return None

    def _check_alone(self, name: str, version: str) -> None:
        """Raises unless the version (empty: any) is all that is loaded of the model."""
        loaded, number = self.host.versions(name), self.host.number(name, version)
        if version and number not in loaded:
            raise ModelNotFound("loaded version of", f"{name}/{version}", map(str, loaded))
        if version and len(loaded) > 1:
            unversioned, labels = self.host.route(name).roles(number or 0)
            uses = [*labels, *(["the answer to calls without a version"] if unversioned else [])]
            raise PreconditionFailed(
                f"{name}/{number} is kept loaded as {', '.join(uses) or 'the newest'}: move the label, load "
                "another version, or unload the whole model by naming none"
            )

    def _log_once(self, name: str, error: ServiceError) -> None:
        if error.message not in self._unreadable:
            self._unreadable.add(error.message)
            log.error("a model of the store cannot be read", extra={"model": name, "error": error.message})
