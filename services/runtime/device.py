"""Named threads that own a compute device, so that the event loop never computes. Knows no batch, no model."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DeviceThread:
    """Runs functions in the order they come: one after another, or on `count` threads beside each other.

    A run costs one wake-up of a thread and one of the loop: a lone call to a tiny net is little else.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._works: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._door, self._closed = Lock(), False
        self.count = count
        self._threads = [Thread(target=self._serve, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Result of `function(*args)`, computed on a thread; cancelled if the device is closed before it began.

        A cancelled wait does not stop what runs. Raises nothing before it is awaited.
        """
        loop = asyncio.get_running_loop()
        work = _Work(partial(function, *args, **kwargs), loop, loop.create_future())
        with self._door:
            if self._closed:
                work.future.cancel()
            else:
                self._works.put(work)
        return work.future

    def close(self) -> None:
        """Lets the running functions finish, drops what waits. Blocking."""
        with self._door:
            self._closed = True
        self._drop()
        for _ in self._threads:
            self._works.put(None)
        for thread in self._threads:
            thread.join()

    def _drop(self) -> None:
        with suppress(Empty):
            while True:
                work = self._works.get_nowait()
                if work is not None:
                    work.drop()

    def _serve(self) -> None:
        while True:
            work = self._works.get()
            if work is None:
                return
            work.compute()
            # Or the last inputs and outputs would live until somebody asks again.
            del work


class _Work(Generic[T]):
    """A function to run, and the future, of one loop, that its end belongs to."""

    __slots__ = ("_function", "_loop", "future")

    def __init__(
        self, function: Callable[[], T], loop: asyncio.AbstractEventLoop, future: "asyncio.Future[T]"
    ) -> None:
        self._function, self._loop, self.future = function, loop, future

    def compute(self) -> None:
        """On a thread of the device."""
        if self.future.cancelled():
            return
        try:
            self._tell(self._succeed, self._function())
        except BaseException as error:
            self._tell(self._fail, error)

    def drop(self) -> None:
        """It will never be computed."""
        self._tell(self.future.cancel)

    def _tell(self, end: Callable[..., Any], *args: object) -> None:
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(end, *args)

    def _succeed(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, StopIteration):  # no future takes one: its waiter would wait for ever
            error = RuntimeError("the function ended in StopIteration")
        self.future.set_exception(error)
