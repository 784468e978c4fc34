"""What is opened at its first use, once, on a thread: who never needs it never pays. Knows no tensors."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Opened(Generic[T]):
    """One thing, made by `make` when it is first asked for; those who ask meanwhile wait for the same."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._opening = make, asyncio.Lock()
        self._found: T | None = None

    async def get(self) -> T:
        """The thing. What `make` raises is raised, and the next to ask tries again."""
        async with self._opening:
            if self._found is None:
                self._found = await asyncio.to_thread(self._make)
            return self._found

    def close(self) -> None:
        """Let go of it."""
        self._found = None
