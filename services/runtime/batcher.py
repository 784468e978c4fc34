"""Micro-batching: a batch is cut when the device is free, not on a clock. Knows no tensors, protos or models.

One batch runs, one forms. Items of one batch share a group; the budget counts cost, not rows. What does not fit
stays in front. Items whose caller left or whose deadline passed are skipped before compute, and counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from services.runtime.errors import DeadlinePassed, Overloaded, Unavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """An item's result and where its time went."""

    value: R
    queue_ms: float
    compute_ms: float
    batch_size: int


@dataclass(slots=True)
class Entry(Generic[T, R]):
    """One waiting item. The future belongs to the entry: no shared table of ids."""

    item: T
    cost: int
    group: Hashable
    deadline: float | None
    future: "asyncio.Future[Outcome[R]]"
    arrived: float = field(default_factory=time.monotonic)


class Observer(Protocol):
    """What a batcher tells of itself; the metrics implement it."""

    def queued(self, depth: int) -> None: ...

    def skipped(self, why: str) -> None: ...

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None: ...


class MicroBatcher(Generic[T, R]):
    """`run` gets a list of items and returns one result or exception for each, in order."""

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R | Exception]],
        *,
        execute: Callable[..., Awaitable[Sequence[R | Exception]]],
        budget: int,
        cost: Callable[[T], int] = lambda _: 1,
        group: Callable[[T], Hashable] = lambda _: None,
        queue_limit: int = 512,
        parallel: int = 1,
        observer: Observer | None = None,
    ) -> None:
        self._run, self._execute = run, execute
        self._cost, self._group, self._budget = cost, group, budget
        self._queue_limit, self._parallel = queue_limit, parallel
        self._observer = observer
        self._waiting: deque[Entry[T, R]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, item: T, deadline: float | None = None) -> Outcome[R]:
        """Result of `item`. Raises Overloaded when the queue is full, DeadlinePassed, or the item's own error."""
        if self._closed:
            raise Unavailable("this model is being unloaded", retry_after_s=1.0)
        if self._is_full():
            raise Overloaded(
                f"{self._queue_limit} items are waiting, the limit; retry later",
                reason="QUEUE_FULL",
                retry_after_s=1.0,
            )
        future: asyncio.Future[Outcome[R]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Entry(item, self._cost(item), self._group(item), deadline, future))
        self._tell_depth()
        self._cut()
        return await future

    async def close(self) -> None:
        """Refuses new items and returns when every accepted one has ended."""
        self._closed = True
        while self._running or self._waiting:
            self._cut()
            if self._running:
                await asyncio.wait(self._running)

    def _is_full(self) -> bool:
        """At the limit, those whose callers left make room; below it nothing is walked through."""
        if len(self._waiting) < self._queue_limit:
            return False
        self._waiting = deque(entry for entry in self._waiting if self._alive(entry))
        self._tell_depth()
        return len(self._waiting) >= self._queue_limit

    def _cut(self) -> None:
        """Starts a batch for every free place on the device."""
        while len(self._running) < self._parallel:
            batch = self._take()
            if not batch:
                return
            task = asyncio.create_task(self._compute(batch))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._cut()

    def _take(self) -> list[Entry[T, R]]:
        """The first live entry and all of its group that fit the budget, in order of arrival."""
        batch: list[Entry[T, R]] = []
        kept: deque[Entry[T, R]] = deque()
        spent = 0
        while self._waiting:
            entry = self._waiting.popleft()
            if not self._alive(entry):
                continue
            fits = not batch or (entry.group == batch[0].group and spent + entry.cost <= self._budget)
            if not fits:
                kept.append(entry)
                if entry.group == batch[0].group:
                    break
                continue
            batch.append(entry)
            spent += entry.cost
        self._waiting.extendleft(reversed(kept))
        self._tell_depth()
        return batch

    def _alive(self, entry: Entry[T, R]) -> bool:
        if entry.future.done():
            self._skip("cancelled")
            return False
        if entry.deadline is not None and time.monotonic() >= entry.deadline:
            entry.future.set_exception(DeadlinePassed("the deadline passed while the item waited for the device"))
            self._skip("deadline")
            return False
        return True

    async def _compute(self, batch: list[Entry[T, R]]) -> None:
        began = time.monotonic()
        try:
            results = await self._results([entry.item for entry in batch])
            spent = time.monotonic() - began
            if self._observer:
                self._observer.computed([began - entry.arrived for entry in batch], spent)
            for entry, result in zip(batch, results, strict=True):
                self._deliver(entry, result, began, spent, len(batch))
        finally:
            self._release(batch)

    @staticmethod
    def _release(batch: list[Entry[T, R]]) -> None:
        """Whatever ended the batch (its device was closed under it), nobody is left waiting."""
        for entry in batch:
            if not entry.future.done():
                lost = Unavailable("the device was closed before the item was computed", retry_after_s=1.0)
                entry.future.set_exception(lost)

    async def _results(self, items: list[T]) -> Sequence[R | Exception]:
        """One a item; a failure of the whole run is the result of each."""
        try:
            results = await self._execute(self._run, items)
        except Exception as error:
            return [error] * len(items)
        if len(results) != len(items):
            return [RuntimeError(f"{len(items)} items were computed to {len(results)} results")] * len(items)
        return results

    @staticmethod
    def _deliver(entry: Entry[T, R], result: R | Exception, began: float, spent: float, size: int) -> None:
        # Its caller may have gone while the batch ran; that must not touch its neighbours.
        with suppress(asyncio.InvalidStateError):
            if isinstance(result, Exception):
                entry.future.set_exception(result)
            else:
                wait = began - entry.arrived
                entry.future.set_result(Outcome(result, wait * 1000, spent * 1000, size))

    def _tell_depth(self) -> None:
        if self._observer:
            self._observer.queued(len(self._waiting))

    def _skip(self, why: str) -> None:
        if self._observer:
            self._observer.skipped(why)
