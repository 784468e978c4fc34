"""Micro-batching: a batch is cut when the device is free, not on a clock. Knows no tensors, protos or models.

One batch runs in each place of the device, one forms; what waits for several free places is shared out among them.
A full batch gains nothing by waiting: a device that keeps a line of its own may have some ahead of time.
Items of one batch share a group; the budget counts cost, not rows. What does not fit stays in front. Items whose
caller left or whose deadline passed are skipped before compute, and counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from services.runtime.context import current
from services.runtime.errors import DeadlinePassed, Overloaded, Unavailable
from services.runtime.handed_over import Entry, HandedOver, Why

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """An item's result and where its time went."""

    value: R
    queue_ms: float
    compute_ms: float
    batch_size: int


class Observer(Protocol):
    """What a batcher tells of itself; the metrics implement it."""

    def queued(self, depth: int) -> None: ...

    def skipped(self, why: str) -> None: ...

    def computed(self, waits_s: Sequence[float], compute_s: float) -> None: ...


class MicroBatcher(Generic[T, R]):
    """`run` gets a list of items and returns one result or exception for each, in order.

    `execute` runs it on the device; it raises nothing before it is awaited. A cost up to `least` is not shared
    out among free places: handing over would take longer. `ahead`: full batches that wait in the device's own
    line, so that a place that is free again need not ask.
    """

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
        least: int = 1,
        ahead: int = 0,
        observer: Observer | None = None,
    ) -> None:
        self._run, self._execute = run, execute
        self._cost, self._group, self._budget = cost, group, budget
        self._queue_limit, self._parallel, self._least = queue_limit, parallel, least
        self._ahead = ahead
        self._observer = observer
        self._waiting: deque[Entry[T, R]] = deque()
        self._running: set[asyncio.Future[Sequence[R | Exception]]] = set()
        self._closed, self._told = False, 0

    async def submit(self, item: T, deadline: float | None = None) -> Outcome[R]:
        """Result of `item`. Raises Overloaded when the queue is full, DeadlinePassed, or the item's own error."""
        (entry,) = self._accept([item], deadline)
        return await entry.future

    async def submit_all(self, items: Sequence[T], deadline: float | None = None) -> list[Outcome[R]]:
        """Results in order, of items that are there at once: free places share them. Overloaded takes in none.

        The first error ends them all: what still waits is taken back.
        """
        entries = self._accept(items, deadline)
        try:
            return await asyncio.gather(*(entry.future for entry in entries))
        finally:
            for entry in entries:
                entry.future.cancel()

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits: seen by `execute`, its batch may have the whole device."""
        return not self._running and not self._waiting

    def narrow(self) -> None:
        """From now on one batch runs at a time, however many places the device has, and none waits in its line."""
        self._parallel, self._ahead = 1, 0

    async def close(self) -> None:
        """Refuses new items and returns when every accepted one has ended."""
        self._closed = True
        while self._running or self._waiting:
            self._cut()
            if self._running:
                await asyncio.wait(self._running)
        self._tell_depth()

    def _accept(self, items: Sequence[T], deadline: float | None) -> list[Entry[T, R]]:
        if self._closed:
            raise Unavailable("this model is being unloaded", retry_after_s=1.0)
        if self._is_full(len(items)):
            raise Overloaded(
                f"{self._queue_limit} items are waiting, the limit; retry later",
                reason="QUEUE_FULL",
                retry_after_s=1.0,
            )
        loop = asyncio.get_running_loop()
        span = current().span
        entries: list[Entry[T, R]] = [
            Entry(item, self._cost(item), self._group(item), deadline, loop.create_future(), span=span)
            for item in items
        ]
        self._waiting.extend(entries)
        self._cut()
        self._tell_depth()
        return entries

    def _is_full(self, more: int) -> bool:
        """Beyond the limit, those whose callers left make room; below it nothing is walked through."""
        if len(self._waiting) + more <= self._queue_limit:
            return False
        self._waiting = deque(entry for entry in self._waiting if self._alive(entry))
        self._tell_depth()
        return len(self._waiting) + more > self._queue_limit

    def _cut(self) -> None:
        """Starts a batch for every free place on the device, then the full ones that it may have ahead of time."""
        while self._waiting and (free := self._parallel - len(self._running)) > 0:
            batch = self._take(self._share(free))
            if not batch:
                return
            self._start(batch)
        while self._waiting and len(self._running) < self._parallel + self._ahead:
            if sum(entry.cost for entry in self._waiting) < self._budget:
                return
            if batch := self._take(self._budget):
                self._start(batch)

    def _start(self, batch: list[Entry[T, R]]) -> None:
        handed = HandedOver(batch, self._run)
        running = asyncio.ensure_future(self._execute(handed.compute, [entry.item for entry in batch]))
        self._running.add(running)
        running.add_done_callback(partial(self._ended, handed))

    def _ended(self, handed: HandedOver[T, R], running: "asyncio.Future[Sequence[R | Exception]]") -> None:
        """Whatever ended the batch (its device may have been closed under it), nobody is left waiting."""
        spent = time.monotonic() - handed.began
        self._running.discard(running)
        # Before the answers go out: the device has its next batch meanwhile.
        self._cut()
        self._tell_depth()
        late = handed.late or [None] * len(handed.entries)
        computed = [entry for entry, why in zip(handed.entries, late, strict=True) if why is None]
        for entry, why, result in zip(handed.entries, late, _results(running, len(late)), strict=True):
            if why is None:
                _deliver(entry, result, handed.began, spent, len(computed))
            else:
                self._leave_out(entry, why)
        handed.trace(computed, spent)
        if self._observer and not running.cancelled() and computed:
            self._observer.computed([handed.began - entry.arrived for entry in computed], spent)

    def _share(self, free: int) -> int:
        """The cost of the next batch: an even part for each free place, none over the budget."""
        if free == 1:
            return self._budget
        even = -(-sum(entry.cost for entry in self._waiting) // free)
        return min(self._budget, max(self._least, even))

    def _take(self, budget: int) -> list[Entry[T, R]]:
        """The first live entry and all of its group that fit the budget, in order of arrival."""
        batch: list[Entry[T, R]] = []
        kept: deque[Entry[T, R]] = deque()
        spent = 0
        while self._waiting:
            entry = self._waiting.popleft()
            if not self._alive(entry):
                continue
            fits = not batch or (entry.group == batch[0].group and spent + entry.cost <= budget)
            if not fits:
                kept.append(entry)
                if entry.group == batch[0].group:
                    break
                continue
            batch.append(entry)
            spent += entry.cost
        self._waiting.extendleft(reversed(kept))
        return batch

    def _alive(self, entry: Entry[T, R]) -> bool:
        if (why := entry.unwanted()) is not None:
            self._leave_out(entry, why)
        return why is None

    def _leave_out(self, entry: Entry[T, R], why: Why) -> None:
        if not entry.future.done():
            entry.future.set_exception(DeadlinePassed("the deadline passed while the item waited for the device"))
        self._skip(why)

    def _tell_depth(self) -> None:
        """Once all that is free has been given out, and if it is news: telling costs as much as queueing."""
        depth = len(self._waiting)
        if self._observer and depth != self._told:
            self._told = depth
            self._observer.queued(depth)

    def _skip(self, why: str) -> None:
        if self._observer:
            self._observer.skipped(why)


def _results(running: "asyncio.Future[Any]", count: int) -> Sequence[Any]:
    """One an item; a failure of the whole run is the result of each."""
    if running.cancelled():
        why = "the device was closed before the item was computed"
        return [Unavailable(why, retry_after_s=1.0) for _ in range(count)]
    error = running.exception()
    if error is not None:
        return [error] * count
    results: Sequence[Any] = running.result()
    if len(results) != count:
        return [RuntimeError(f"{count} items were computed to {len(results)} results")] * count
    return results


def _deliver(entry: Entry[T, R], result: R | BaseException, began: float, spent: float, size: int) -> None:
    # Its caller may have gone while the batch ran; that must not touch its neighbours.
    if entry.future.done():
        return
    if isinstance(result, BaseException):
        entry.future.set_exception(result)
    else:
        wait = began - entry.arrived
        entry.future.set_result(Outcome(result, wait * 1000, spent * 1000, size))
