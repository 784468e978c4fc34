"""A file that is read again when it changes: what it said when it was last good stays in force."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from services.runtime.errors import ServiceError

T = TypeVar("T")

log = logging.getLogger("maas.files")


class Followed(Generic[T]):
    """What `parse` makes of a file's text."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        """Raises what `parse` raises, or OSError."""
        self._path, self._parse = path, parse
        self._seen = _stamp(path)
        self.value = parse(path.read_text(encoding="utf-8"))
        self._following: asyncio.Task[None] | None = None

    async def start(self, every_s: float) -> None:
        """Looks at the file again and again, until closed."""
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
        """Takes a changed file; a bad one is logged, without what it holds, and changes nothing."""
        try:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self.value = self._parse(self._path.read_text(encoding="utf-8"))
                log.info("read again", extra={"file": self._path.name})
        except (ServiceError, OSError, UnicodeDecodeError) as error:
            why = type(error).__name__ if isinstance(error, UnicodeDecodeError) else str(error)
            log.error("cannot be read; what it said before stays", extra={"file": self._path.name, "error": why})


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes with the file's content, as far as the file system tells."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
