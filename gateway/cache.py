"""The tiers of the cache: this process (L1), then Redis (L2). Knows keys and bytes, not requests.

The first is plain even where the second is sealed: who reads this process' memory holds the key as well.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.cache_control import CacheControl
from gateway.entry import Entry, pack, unpack
from gateway.lease import FIRST_LOOK_S, LEASE_S, LONGEST_LOOK_S, SLOWER, Lease, Locks, new_token
from gateway.lru import ByteLRU

JITTER = 0.1
# Writes to Redis under way; beyond, an answer stays in this process only.
PENDING_WRITES = 256
# From here on compression leaves the event loop.
LARGE_BYTES = 64 * 1024


class Far(Locks, Protocol):
    """Bytes by key, with a life, beyond this process."""

    @property
    def broken(self) -> bool: ...

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, life_s: float) -> None: ...

    async def claim(self, key: str, token: str, life_s: float) -> tuple[bool, bytes | None] | None: ...

    async def flush(self, pattern: str) -> int: ...

    async def epoch(self) -> int: ...

    async def advance(self) -> int: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Cache:
    """`l2` None = this process only. Times are unix seconds: they are compared across processes."""

    l1: ByteLRU
    l2: Far | None
    ttl_s: float
    value_bytes: int
    clock: Callable[[], float] = time.time
    uniform: Callable[[float, float], float] = random.uniform
    # What goes to Redis right now, by task: its key.
    _writes: dict[asyncio.Task[None], str] = field(default_factory=dict)
    # How often something was dropped from `l1`.
    _drops: int = 0

    def near(self, key: str, control: CacheControl) -> Entry | None:
        """From this process, without waiting."""
        entry = self.l1.get(key)
        if entry is not None and entry.expires_at <= self.clock():
            self.l1.remove(key)
            return None
        return self._taken(entry, control)

    async def far(self, key: str, control: CacheControl) -> Entry | None:
        """From Redis, within its time bound; kept near from then on."""
        drops = self._drops
        data = await self.l2.get(key) if self.l2 is not None else None
        return self._read(key, data, control, drops)

    async def found_or_leased(
        self, key: str, control: CacheControl, patience_s: float
    ) -> tuple[Entry | None, Lease | None, bool]:
        """From Redis, or the lease to compute it; while another holds that, its answer is waited for. And whether
        it was.

        Neither if Redis does not answer, or not after `patience_s`: then it is to be computed all the same.
        """
        look_s, ends_at, waited = FIRST_LOOK_S, time.monotonic() + patience_s, False
        while self.l2 is not None:
            token, drops = new_token(), self._drops
            try:
                claimed = await self.l2.claim(key, token, LEASE_S)
            except asyncio.CancelledError:
                # It may have been won: nobody shall wait for one who left.
                self._after(key, self.l2.unlock(key, token))
                raise
            if claimed is None or (left_s := ends_at - time.monotonic()) <= 0:
                break
            won, data = claimed
            if won:
                return None, Lease(self.l2, key, token, self._after), waited
            if data is not None:
                return self._read(key, data, control, drops), None, waited
            waited = True
            await asyncio.sleep(min(look_s, left_s))
            look_s = min(look_s * SLOWER, LONGEST_LOOK_S)
        return None, None, waited

    async def lease(self, key: str) -> tuple[bool, Lease | None]:
        """Whether nobody else computes the answer to `key` right now, and the lease on it where there is one."""
        if self.l2 is None:
            return True, None
        token = new_token()
        won = await self.l2.lock(key, token, LEASE_S)
        return won is not False, Lease(self.l2, key, token, self._after) if won else None

    def store(self, key: str, reply: bytes, took_s: float = 0.0) -> None:
        """Remembers an answer that took `took_s`, near at once and far in the background; one over the value cap
        is not kept."""
        if len(reply) > self.value_bytes:
            return
        now = self.clock()
        # Jitter: what was stored together must not expire together.
        entry = Entry(reply, now, now + self.ttl_s * self.uniform(1 - JITTER, 1 + JITTER), took_s)
        self.l1.put(key, entry)
        if self.l2 is not None and len(self._writes) < PENDING_WRITES:
            self._begin(key, self._write(self.l2, key, entry))

    def drop(self, covered: Callable[[str], bool]) -> int:
        """Forgets what this process keeps under such keys; how many answers that were."""
        self._drops += 1
        return self.l1.drop(covered)

    async def written(self) -> None:
        """Returns once the writes under way have ended, and what comes after them."""
        while self._writes:
            await asyncio.wait(self._writes)

    def age_s(self, entry: Entry) -> float:
        return max(0.0, self.clock() - entry.stored_at)

    async def close(self) -> None:
        """Ends the writes under way, then the connection."""
        await self.written()
        if self.l2 is not None:
            await self.l2.close()

    async def _write(self, l2: Far, key: str, entry: Entry) -> None:
        data = await asyncio.to_thread(pack, key, entry) if entry.size > LARGE_BYTES else pack(key, entry)
        await l2.set(key, data, entry.expires_at - entry.stored_at)

    def _begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writes[task] = key
        task.add_done_callback(self._writes.pop)

    def _after(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Begins `work` when the writes of `key` have ended."""
        earlier = [task for task, of in self._writes.items() if of == key]

        async def then() -> None:
            if earlier:
                await asyncio.wait(earlier)
            await work

        self._begin(key, then())

    def _read(self, key: str, data: bytes | None, control: CacheControl, drops: int) -> Entry | None:
        """What Redis gave; kept near unless there was a flush since it was asked."""
        entry = unpack(key, data, self.value_bytes) if data is not None else None
        if entry is None or entry.expires_at <= self.clock():
            return None
        taken = self._taken(entry, control)
        # What was read before a flush and arrives after it must not be kept again.
        if taken is not None and drops == self._drops:
            self.l1.put(key, taken)
        return taken

    def _taken(self, entry: Entry | None, control: CacheControl) -> Entry | None:
        return entry if entry is not None and control.takes(self.age_s(entry)) else None
