"""How many pictures are at work at once. Pure policy: knows no picture and no request."""

import asyncio
from contextlib import AbstractAsyncContextManager

from services.runtime.errors import Overloaded

RETRY_AFTER_S = 1.0


class Places:
    """`limit` places, for all who come."""

    def __init__(self, limit: int) -> None:
        self._limit, self._taken = limit, 0
        self._line, self._freed = asyncio.Lock(), asyncio.Event()

    def hold(self, count: int, patient: bool = False) -> AbstractAsyncContextManager[None]:
        """`count` places, at most `limit`, for the length of the block.

        While they are not free the `patient` wait, first come, first served; others get Overloaded.
        """
        return _Held(self, count, patient)

    async def take(self, count: int, patient: bool) -> None:
        """Until they are given back."""
        if patient:
            await self._wait_for(count)
        elif not self._fits(count):
            raise self._full()
        else:
            self._taken += count

    def give_back(self, count: int) -> None:
        self._taken -= count
        self._freed.set()

    async def _wait_for(self, count: int) -> None:
        async with self._line:
            while not self._fits(count):
                self._freed.clear()
                await self._freed.wait()
            self._taken += count

    def _fits(self, count: int) -> bool:
        return self._taken + count <= self._limit

    def _full(self) -> Overloaded:
        return Overloaded(
            f"{self._taken} pictures are at work, {self._limit} is the limit; retry later",
            reason="QUEUE_FULL",
            retry_after_s=RETRY_AFTER_S,
        )


class _Held(AbstractAsyncContextManager[None]):
    """Places held for the length of a block. A class, as a generator costs every call three times as much."""

    __slots__ = ("_count", "_patient", "_places")

    def __init__(self, places: Places, count: int, patient: bool) -> None:
        self._places, self._count, self._patient = places, count, patient

    async def __aenter__(self) -> None:
        await self._places.take(self._count, self._patient)

    async def __aexit__(self, *error: object) -> None:
        self._places.give_back(self._count)
