"""Ordered overlap of a stream's requests: many at work, answers in the order of the questions. Knows no proto."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def overlapped(
    items: AsyncIterable[T], handle: Callable[[T], Coroutine[Any, Any, R]], window: int
) -> AsyncIterator[R]:
    """`handle(item)` of each item, in order, with at most `window` + 2 of them begun and not yet given out.

    The first error, of an item or of reading, is raised in its place after the answers before it. However the
    iteration ends, nothing of it goes on running.
    """
    begun: asyncio.Queue[Awaitable[R] | None] = asyncio.Queue(window)
    running: set[asyncio.Task[Any]] = set()
    running.add(asyncio.create_task(_begin_all(items, handle, begun, running)))
    try:
        while (answer := await begun.get()) is not None:
            yield await answer
    finally:
        for task in running:
            task.cancel()


async def _begin_all(
    items: AsyncIterable[T],
    handle: Callable[[T], Coroutine[Any, Any, R]],
    begun: "asyncio.Queue[Awaitable[R] | None]",
    running: set[asyncio.Task[Any]],
) -> None:
    forget = _forget(running)
    try:
        async for item in items:
            task = asyncio.create_task(handle(item))
            running.add(task)
            task.add_done_callback(forget)
            await begun.put(task)
    except Exception as error:
        failed: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        await begun.put(failed)
    await begun.put(None)


def _forget(running: set[asyncio.Task[Any]]) -> Callable[[asyncio.Task[Any]], None]:
    """Takes an ended task out of `running`; its error, if nobody asks for it any more, is no news."""

    def done(task: asyncio.Task[Any]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()

    return done
