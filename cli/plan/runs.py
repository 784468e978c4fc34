"""Sends calls to a suite in ways that tell their cost: some kept going, or one after a pause. Draws no curve."""

import asyncio
import itertools
import selectors
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cli.plan.asks import Ask
from cli.plan.suite import Suite
from cli.plan.wire import Connection, headers

NO_STORE = (("cache-control", "no-store"),)


@dataclass(frozen=True, slots=True)
class Run:
    """`cpu_s` a call by program, `aside_s` of this thread; `inverse` is the mean of 1 / batch size.
    `compute_s`: on the device, the whole batch."""

    latencies: Sequence[float]
    cpu_s: Mapping[str, float]
    aside_s: float
    inverse: float
    compute_s: float
    bytes: tuple[int, int]


class Caller:
    """Sends the calls of one kind, one after the other or several at once; counts bytes and batches."""

    def __init__(
        self, suite: Suite, connection: Connection, ask: Ask, fresh: bool = True, known: int | None = None
    ) -> None:
        self._connection, self._ask = connection, ask
        self._headers = headers(suite.address, ask.path, NO_STORE if fresh else ())
        self._numbers = itertools.cycle(range(known)) if known else itertools.count()
        self.bytes, self.inverses, self.computes = (0, 0), list[float](), list[float]()

    async def __call__(self) -> None:
        body = self._ask.body(next(self._numbers))
        reply = await self._connection.call(self._headers, body)
        self.bytes = len(body), len(reply)
        told = self._ask.reply.FromString(reply)
        self.inverses.append(1 / max(1, told.timing.batch_size))
        self.computes.append(told.timing.compute_ms / 1e3)


async def closed(suite: Suite, caller: Caller, at_once: int, seconds: float) -> Run:
    """`at_once` calls kept going; a fifth of the time warms up."""
    return await _run(suite, caller, lambda length: _keep_going(caller, at_once, length), seconds)


async def lone(suite: Suite, caller: Caller, gap_s: float, seconds: float) -> Run:
    """One call, due `gap_s` after the last was answered; latencies from when it was due."""
    return await _run(suite, caller, lambda length: _after_pauses(caller, gap_s, length), seconds)


def precise() -> asyncio.AbstractEventLoop:
    """A loop that wakes when it should: epoll counts in milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _run(
    suite: Suite, caller: Caller, work: Callable[[float], Awaitable[list[float]]], seconds: float
) -> Run:
    await work(seconds / 5)
    caller.inverses.clear()
    caller.computes.clear()
    before, mine = {name: suite.cpu_s(name) for name in suite.pids}, time.thread_time()
    latencies = await work(seconds)
    count = len(latencies)
    used = {name: (suite.cpu_s(name) - before[name]) / count for name in suite.pids}
    inverse, compute_s = float(np.mean(caller.inverses)), float(np.mean(caller.computes))
    return Run(latencies, used, (time.thread_time() - mine) / count, inverse, compute_s, caller.bytes)


async def _keep_going(call: Caller, at_once: int, seconds: float) -> list[float]:
    end, found = time.perf_counter() + seconds, list[float]()

    async def one() -> None:
        now = time.perf_counter()
        while now < end:
            await call()
            began, now = now, time.perf_counter()
            found.append(now - began)

    await asyncio.gather(*(one() for _ in range(at_once)))
    return found


async def _after_pauses(call: Caller, gap_s: float, seconds: float) -> list[float]:
    now, found = time.perf_counter(), list[float]()
    end = now + seconds
    while now < end:
        due = now + gap_s
        await asyncio.sleep(gap_s)
        await call()
        now = time.perf_counter()
        found.append(now - due)
    return found
