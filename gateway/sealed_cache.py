"""What leaves the cache for Redis, sealed. Knows no Redis and no cipher."""

from collections.abc import Callable

from gateway.cache import Far
from services.runtime.sealing import Sealer


class SealedCache:
    """A `Far` whose values are sealed. One that does not open is a miss, told to `on_unopened`."""

    def __init__(self, far: Far, sealer: Sealer, on_unopened: Callable[[], None]) -> None:
        self._far, self._sealer, self._on_unopened = far, sealer, on_unopened

    @property
    def broken(self) -> bool:
        return self._far.broken

    async def get(self, key: str) -> bytes | None:
        """The opened value, or None."""
        sealed = await self._far.get(key)
        return self._opened(key, sealed) if sealed is not None else None

    async def claim(self, key: str, token: str, life_s: float) -> tuple[bool, bytes | None] | None:
        """One that does not open is no answer: it is computed afresh, by whom it may concern."""
        claimed = await self._far.claim(key, token, life_s)
        if claimed is None or claimed[1] is None:
            return claimed
        plain = self._opened(key, claimed[1])
        return (False, plain) if plain is not None else None

    async def lock(self, key: str, token: str, life_s: float) -> bool | None:
        return await self._far.lock(key, token, life_s)

    async def extend(self, key: str, token: str, life_s: float) -> bool | None:
        return await self._far.extend(key, token, life_s)

    async def unlock(self, key: str, token: str) -> None:
        await self._far.unlock(key, token)

    async def set(self, key: str, value: bytes, life_s: float) -> None:
        """Keeps the sealed value."""
        await self._far.set(key, self._sealer.seal(key, value), life_s)

    async def flush(self, pattern: str) -> int:
        return await self._far.flush(pattern)

    async def epoch(self) -> int:
        return await self._far.epoch()

    async def advance(self) -> int:
        return await self._far.advance()

    async def close(self) -> None:
        await self._far.close()

    def _opened(self, key: str, sealed: bytes) -> bytes | None:
        plain = self._sealer.open(key, sealed)
        if plain is None:
            self._on_unopened()
        return plain
