"""Threads that compute beside each other, one batch each: the event loop never computes. Knows no model."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from services.runtime.device import DeviceThread

P = ParamSpec("P")
T = TypeVar("T")


class Lanes:
    """`count` of them, shared by all models of a process."""

    def __init__(self, name: str, count: int) -> None:
        self.count, self._inside = count, 0
        self._threads = DeviceThread(name, count)

    @property
    def idle(self) -> bool:
        """Whether nothing computes and nothing waits to."""
        return self._inside == 0

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Result of `function(*args)`, computed on a lane. A cancelled wait does not stop what runs."""
        self._inside += 1
        running = self._threads.run(function, *args, **kwargs)
        running.add_done_callback(self._left)
        return running

    def _left(self, _: "asyncio.Future[Any]") -> None:
        self._inside -= 1

    def close(self) -> None:
        """Lets the running functions finish, drops what waits. Blocking."""
        self._threads.close()
