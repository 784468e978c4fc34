"""Whoever watches changes hears each one, until the watches are ended. Knows not what changes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Watchers(Generic[T]):
    """Queues of changes, one a watch."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[T | None]] = set()
        self._ended = False

    def tell(self, change: T) -> None:
        for queue in self._queues:
            queue.put_nowait(change)

    @contextmanager
    def watch(self) -> Iterator[AsyncIterator[T]]:
        """Each change from the moment the block is entered, until the watches are ended."""
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._queues.add(queue)
        if self._ended:
            queue.put_nowait(None)
        try:
            yield _until_none(queue)
        finally:
            self._queues.discard(queue)

    def end(self) -> None:
        """Ends every `watch`, also those begun later."""
        self._ended = True
        for queue in self._queues:
            queue.put_nowait(None)


async def _until_none(queue: "asyncio.Queue[T | None]") -> AsyncIterator[T]:
    while (change := await queue.get()) is not None:
        yield change
