"""Keeps a host in step with the store: new versions are loaded, and what an administrator asked of one worker
or replica reaches all of them through a small desired-state file beside the models."""

import asyncio
import fcntl
import json
import logging
from pathlib import Path
from typing import Any

from services.runtime.errors import ServiceError
from services.runtime.host import ModelHost

log = logging.getLogger("maas.models")


class Desired:
    """`<store>/.admin/<area>.json`: per model the version an administrator chose, or null for unloaded."""

    def __init__(self, root: Path, area: str) -> None:
        self._path = root / ".admin" / f"{area}.json"

    def read(self) -> dict[str, dict[str, Any]]:
        """{model: {"version": int | None, "newest": newest version at that time}}."""
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return found

    def write(self, model: str, version: int | None, newest: int) -> None:
        """Records a choice; whole-file replace, so readers never see half of it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (self._path.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            wanted = self.read() | {model: {"version": version, "newest": newest}}
            aside = self._path.with_suffix(".tmp")
            aside.write_text(json.dumps(wanted, sort_keys=True))
            aside.replace(self._path)


class Follower:
    """Compares store and desired state with what is loaded; `sync` makes them equal."""

    def __init__(self, host: ModelHost[Any], only: frozenset[str] = frozenset()) -> None:
        self.host, self._only = host, only
        self.desired = Desired(host.store.root, host.area)
        # A version that failed is not tried again until something newer is published or asked for.
        self._failed: set[tuple[str, int]] = set()
        # Damaged versions that were already logged.
        self._unreadable: set[str] = set()
        # One act at a time, its wish read inside: a slow sync must not undo what was asked for meanwhile.
        self._acting = asyncio.Lock()

    async def sync(self) -> None:
        """Loads what should serve and is not, unloads what should not."""
        for name in await asyncio.to_thread(self.host.store.names):
            if not self._only or name in self._only:
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
        """An administrator's load: here now, elsewhere at the next look."""
        async with self._acting:
            manifest = await self.host.load(name, version)
            self.desired.write(name, manifest.version, self.host.store.versions(name)[-1])

    async def drop(self, name: str, version: str) -> None:
        """An administrator's unload: here now, elsewhere at the next look."""
        async with self._acting:
            await self.host.unload(name, version)
            self.desired.write(name, None, self.host.store.versions(name)[-1])

    async def _act(self, name: str) -> None:
        try:
            known, version = await asyncio.to_thread(self._wish, name)
        except ServiceError as error:
            # One damaged version must not stop the others; what is loaded of it stays.
            self._log_once(name, error)
            return
        serving = self.host.serving_version(name)
        if known and version is None and serving is not None:
            await self.host.unload(name)
        elif known and version is not None and serving != version:
            await self._load(name, version)

    def _wish(self, name: str) -> tuple[bool, int | None]:
        """Whether this area serves the model, and the version it should serve (None = unloaded)."""
        versions = self.host.store.versions(name)
        if not versions or not self.host.store.manifest(name, versions[-1]).serves(self.host.area):
            return False, None
        choice = self.desired.read().get(name)
        # A choice holds until something newer than it knew of is published.
        return True, choice["version"] if choice and choice["newest"] >= versions[-1] else versions[-1]

    async def _load(self, name: str, version: int) -> None:
        if (name, version) in self._failed:
            return
        try:
            await self.host.load(name, str(version))
        except ServiceError:
            self._failed.add((name, version))

    def _log_once(self, name: str, error: ServiceError) -> None:
        if error.message not in self._unreadable:
            self._unreadable.add(error.message)
            log.error("a model of the store cannot be read", extra={"model": name, "error": error.message})
