"""One piece of work per key, however many wait for it. Pure asyncio: knows neither cache nor gRPC."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: "asyncio.Task[T]"
    waiters: int = 0


class SingleFlight(Generic[T]):
    """The work runs in a task of its own, so that no caller's end is another's."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether `do` would join work in progress."""
        return self._under_way(key) is not None

    async def do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Result or exception of `work`, begun here or joined. The last caller to leave cancels it."""
        flight = self._under_way(key) or self._begin(key, work)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                # Out of the table first: a newcomer must not join work that is being cancelled.
                self._end(key, flight)
                flight.task.cancel()

    def _under_way(self, key: Hashable) -> _Flight[T] | None:
        """A flight that can still be waited for. One that is done leaves the table only with its callback, an
        iteration of the loop later: awaiting it would not suspend, so joining it again and again never ends."""
        flight = self._flights.get(key)
        return None if flight is None or flight.task.done() else flight

    def _begin(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = self._flights[key] = _Flight(asyncio.create_task(work()))
        flight.task.add_done_callback(lambda _: self._end(key, flight))
        return flight

    def _end(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            # Seen, even if everybody has left.
            flight.task.exception()
