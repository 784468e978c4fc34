"""Computes answers anew that end soon, in the background. No caller waits for it, or hears of its failure."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace

from gateway.cache import Cache
from gateway.cache_control import CacheControl
from gateway.early import due
from gateway.entry import Entry
from gateway.naming import Named
from gateway.overload.priority import HEADER, Priority
from services.runtime.context import current, enter
from services.runtime.errors import ServiceError

# At once; beyond, an answer just ends, and whoever asks next computes it.
MOST = 16
LONGEST_S = 60.0
_PLAIN = CacheControl()

log = logging.getLogger("maas.cache")


class Refresher:
    """At most one a key and process, and where it pays one a key and Redis."""

    def __init__(self, cache: Cache, compute: Callable[[Named], Awaitable[object]]) -> None:
        """`compute` stores what it finds."""
        self._cache, self._compute = cache, compute
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def consider(self, named: Named, key: str, entry: Entry) -> None:
        """Begins where chance says so: `entry` was just found under `key`."""
        if not due(entry, self._cache.clock()) or key in self._under_way or len(self._under_way) >= MOST:
            return
        task = self._under_way[key] = asyncio.create_task(self._refresh(named, key, entry))
        task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in (tasks := list(self._under_way.values())):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _refresh(self, named: Named, key: str, entry: Entry) -> None:
        # Of the task alone: its own time, behind every caller, and on behalf of the one whose call it was.
        call, metadata = current(), {HEADER: Priority.BATCH.name.lower()}
        deadline = time.monotonic() + LONGEST_S
        enter(replace(call, deadline=deadline, metadata=metadata, initial=[], trailing=[]))
        try:
            await self._led(named, key, entry)
        except ServiceError as error:
            log.info("an answer was not computed anew before its end", extra={"reason": error.reason})
        except Exception:
            log.exception("computing an answer anew failed")

    async def _led(self, named: Named, key: str, entry: Entry) -> None:
        if not named.method.costly:
            await self._compute(named)
            return
        free, lease = await self._cache.lease(key)
        if not free:
            return
        async with lease or nullcontext():
            # Another gateway may have been first, and has given the lease back.
            found = await self._cache.far(key, _PLAIN)
            if found is None or found.stored_at <= entry.stored_at:
                await self._compute(named)
