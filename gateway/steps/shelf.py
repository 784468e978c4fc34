"""The stored pipelines in force: those of the file when it was last good."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from gateway.steps.stored import Stored, load
from services.runtime.errors import NotFound, ServiceError

log = logging.getLogger("maas.pipelines")


class Shelf:
    """Pipelines by name; follows its file."""

    def __init__(self, path: Path) -> None:
        """Raises what `load` raises."""
        self._path = path
        self._seen = _stamp(path)
        self._stored: Mapping[str, Stored] = load(path)
        self._following: asyncio.Task[None] | None = None

    def __getitem__(self, name: str) -> Stored:
        """Raises NotFound naming the pipelines there are."""
        if name not in self._stored:
            raise NotFound("pipeline", name, self._stored, reason="PIPELINE_NOT_FOUND")
        return self._stored[name]

    def all(self) -> list[Stored]:
        """In the order of the file."""
        return list(self._stored.values())

    async def start(self, every_s: float) -> None:
        """Reads the file again whenever it changed, until closed."""
        self._following = asyncio.create_task(self._follow(every_s))

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})

    async def _follow(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes a changed file; a bad one is logged and changes nothing."""
        try:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self._stored = load(self._path)
                log.info("pipelines were read again", extra={"pipelines": sorted(self._stored)})
        except (ServiceError, OSError) as error:
            log.error("pipelines cannot be read; those before stay", extra={"error": str(error)})


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes with the file's content, as far as the file system tells."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
