"""Measures what a call costs each process, by how many are taken together. Starts nothing, keeps nothing."""

import asyncio
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from grpc import aio

from cli.embedded import NAME as VALKEY
from cli.plan.asks import ASKS, Ask
from cli.plan.curves import Curves, Method, Points
from cli.plan.suite import Suite
from cli.program import GATEWAY
from services.runtime.channels import open_channel

AT_ONCE = (1, 2, 4, 8, 16)
FEW = (1, 2, 4, 8)  # of calls that take long
KEPT = 50  # quantiles of the idle latency
COMPANY = 8
KNOWN = 64
TIMEOUT_S = 60.0
NO_STORE = (("cache-control", "no-store"),)
BATCHED = 1.05

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """`cpu_s` a call by program, `aside_s` of this process; `inverse` is the mean of 1 / batch size."""

    latencies: Sequence[float]
    cpu_s: Mapping[str, float]
    aside_s: float
    inverse: float
    bytes: tuple[int, int]


class Caller:
    """Sends the calls of one kind, one after the other or several at once; counts bytes and batches."""

    def __init__(self, channel: aio.Channel, ask: Ask, fresh: bool = True, known: int | None = None) -> None:
        self._call, self._ask = channel.unary_unary(ask.path), ask
        self._metadata = NO_STORE if fresh else ()
        self._numbers = itertools.cycle(range(known)) if known else itertools.count()
        self.bytes, self.inverses = (0, 0), list[float]()

    async def __call__(self) -> None:
        body = self._ask.body(next(self._numbers))
        reply = await self._call(body, timeout=TIMEOUT_S, metadata=self._metadata)
        self.bytes = len(body), len(reply)
        told = self._ask.reply.FromString(reply)
        self.inverses.append(1 / max(1, told.timing.batch_size))


async def closed(suite: Suite, caller: Caller, at_once: int, seconds: float) -> Run:
    """`at_once` calls kept going; a fifth of the time warms up."""
    await _keep_going(caller, at_once, seconds / 5)
    caller.inverses.clear()
    before, mine = {name: suite.cpu_s(name) for name in suite.pids}, time.process_time()
    latencies = await _keep_going(caller, at_once, seconds)
    count = len(latencies)
    used = {name: (suite.cpu_s(name) - before[name]) / count for name in suite.pids}
    inverse = float(np.mean(caller.inverses))
    return Run(latencies, used, (time.process_time() - mine) / count, inverse, caller.bytes)


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


async def curves(suite: Suite, names: Iterable[str], seconds: float, tell: Tell) -> Curves:
    """Of these methods; `seconds` a point, twice that where calls take long."""
    methods = {}
    async with open_channel(suite.address, retry=False) as channel:
        for name in names:
            methods[name] = (await method(suite, channel, name, seconds, tell))[0]
        tell("cache")
        hit_s, keep_s, redis_s = await _remembering(suite, channel, methods, seconds)
    memory = {name: round(suite.memory_mib(name), 1) for name in suite.pids}
    return Curves(provenance(seconds), methods, memory, hit_s, keep_s, redis_s)


async def method(
    suite: Suite, channel: aio.Channel, name: str, seconds: float, tell: Tell
) -> tuple[Method, list[Run]]:
    """The curve of one, and the runs behind it."""
    ask, runs = ASKS[name], list[Run]()
    sizes = FEW if ask.shared else AT_ONCE
    for at_once in sizes:
        tell(f"{name}, {at_once} at once")
        runs.append(await closed(suite, Caller(channel, ask), at_once, seconds * (2 if ask.shared else 1)))
    gateway = _points(zip(sizes, (run.cpu_s[GATEWAY] for run in runs), strict=True))
    served = _points(
        (_company(run, at_once), run.cpu_s[ask.service]) for run, at_once in zip(runs, sizes, strict=True)
    )
    idle = np.quantile(runs[0].latencies, (np.arange(KEPT) + 0.5) / KEPT).round(7).tolist()
    return Method(ask.service, gateway, served, idle, *runs[0].bytes, ask.shared), runs


def _company(run: Run, at_once: int) -> float:
    """How many calls shared the cost of a batch; where none are made, all that were there shared the loop's."""
    return 1 / run.inverse if 1 / run.inverse > BATCHED else at_once


def _points(costs: Iterable[tuple[float, float]]) -> Points:
    """By size, each once, from the cost of one call among as many."""
    found = dict(sorted((round(size, 2), round(size * each, 8)) for size, each in costs))
    return Points(list(found), list(found.values()))


async def _remembering(
    suite: Suite, channel: aio.Channel, methods: Mapping[str, Method], seconds: float
) -> tuple[float, float, float]:
    """Gateway seconds of a known answer, and of keeping a new one; Redis seconds of that. By the first method."""
    name = next(iter(methods))
    new = await closed(suite, Caller(channel, ASKS[name], fresh=False), COMPANY, seconds)
    known = await closed(suite, Caller(channel, ASKS[name], fresh=False, known=KNOWN), COMPANY, seconds)
    plain = float(methods[name].gateway.batches()[COMPANY - 1]) / COMPANY
    kept = max(0.0, new.cpu_s[GATEWAY] - plain)
    return round(known.cpu_s[GATEWAY], 8), round(kept, 8), round(new.cpu_s[VALKEY], 8)


def provenance(seconds: float) -> dict[str, Any]:
    """When, on what, and how busy it was."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "seconds_a_point": seconds,
        "load": round(os.getloadavg()[0], 1),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
