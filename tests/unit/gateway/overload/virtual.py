"""An event loop whose time passes only while everybody waits: minutes of load in a moment, the same each time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """Where the loop would sleep, its time is moved instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.loop.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: seconds, as `time()` tells them."""

    def __init__(self) -> None:
        self.now = 1000.0
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)

    def time(self) -> float:
        return self.now


def run(loop: VirtualLoop, what: Coroutine[Any, Any, T]) -> T:
    """Its result; the loop is closed."""
    try:
        return loop.run_until_complete(what)
    finally:
        loop.close()
