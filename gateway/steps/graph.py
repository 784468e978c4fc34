"""What needs what: cycles found, and work done in that order. Knows neither steps nor gRPC."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

Needs = Mapping[str, Collection[str]]


def cycle(needs: Needs) -> list[str]:
    """Names that need each other in a ring, the first again at the end; empty if there is no ring."""
    left = {name: set(wanted) for name, wanted in needs.items()}
    while free := [name for name, wanted in left.items() if not wanted & left.keys()]:
        for name in free:
            del left[name]
    if not left:
        return []
    # Everything left needs something left: walking on must come back to where it was.
    trail = [next(iter(left))]
    while trail[-1] not in trail[:-1]:
        trail.append(next(name for name in needs[trail[-1]] if name in left))
    return trail[trail.index(trail[-1]) :]


async def in_order(needs: Needs, work: Callable[[str], Coroutine[Any, Any, T]]) -> AsyncGenerator[T, None]:
    """What `work` returns for each name, as it ends; it begins once it has ended for all that the name needs.

    `needs` is free of cycles. Leaving early, or an exception of `work`, cancels what still runs.
    """
    waiting = {name: set(wanted) for name, wanted in needs.items()}
    running: dict[asyncio.Task[T], str] = {}

    def begin() -> None:
        for name in [name for name, wanted in waiting.items() if not wanted]:
            del waiting[name]
            running[asyncio.create_task(work(name))] = name

    try:
        begin()
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            ended = {running.pop(task) for task in list(running) if task in done}
            for wanted in waiting.values():
                wanted -= ended
            # Before anything is handed out: a slow reader must not hold up what can go on.
            begin()
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
