"""Two tries of one thing: the second begins where the first takes long, and whichever answers first is taken.

Hedged requests of Dean and Barroso, "The Tail at Scale" (CACM 2013). Knows no network.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Try = Coroutine[Any, Any, T]


async def race(first: Try[T], wait_s: float, second: Callable[[], Try[T] | None]) -> T:
    """The first answer; the other try is cancelled. A failure counts only when both failed: then the first's.

    `second` is asked once, after `wait_s`; None: there is none.
    """
    tries = [asyncio.create_task(first)]
    try:
        await asyncio.wait(tries, timeout=wait_s)
        if not tries[0].done() and (copy := second()) is not None:
            tries.append(asyncio.create_task(copy))
            await _one_answers(tries)
        answers = [one for one in tries if one.done() and one.exception() is None]
        return await (answers or tries)[0]
    finally:
        for one in tries:
            one.cancel()


async def _one_answers(tries: list[asyncio.Task[T]]) -> None:
    """Returns once one of them answered, or all failed."""
    waiting = set(tries)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(one.exception() is None for one in done):
            return
