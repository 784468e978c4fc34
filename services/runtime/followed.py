"""Files that are read again when they change: what they said when they were last good stays in force."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from services.runtime.errors import InvalidInput, ServiceError

T = TypeVar("T")

log = logging.getLogger("maas.files")


class Followed(Generic[T]):
    """What `parse` makes of a file's text; a change of one `beside` it is a change as well."""

    def __init__(self, path: Path, parse: Callable[[str], T], beside: Sequence[Path] = ()) -> None:
        """Raises what `parse` raises, or OSError."""
        self._path, self._parse, self._all = path, parse, (path, *beside)
        self._seen = self._stamps()
        self.value = parse(path.read_text(encoding="utf-8"))
        # Called on the event loop after a change was taken.
        self.listeners: list[Callable[[], None]] = []
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
            before = self.value
            await asyncio.to_thread(self.refresh)
            if self.value is not before:
                for tell in self.listeners:
                    tell()

    def refresh(self) -> None:
        """Takes a changed file; a bad one is logged, without what it holds, and changes nothing."""
        try:
            stamp = self._stamps()
            if stamp != self._seen:
                self._seen = stamp
                self.value = self._parse(self._written())
                log.info("read again", extra={"file": self._path.name})
        except (ServiceError, OSError, UnicodeDecodeError) as error:
            why = type(error).__name__ if isinstance(error, UnicodeDecodeError) else str(error)
            log.error("cannot be read; what it said before stays", extra={"file": self._path.name, "error": why})

    def _written(self) -> str:
        """Who writes in place empties the file first: nobody's key is gone because of that moment."""
        text = self._path.read_text(encoding="utf-8")
        if not text.strip():
            raise InvalidInput(self._path.name, "the file is empty: as while it is written in place")
        return text

    def _stamps(self) -> list[tuple[int, int, int]]:
        return [_stamp(path) for path in self._all]


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes with the file's content, as far as the file system tells."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
