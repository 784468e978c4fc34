"""Curves out of runs: what a call costs each process, by how many are taken together and how long it had slept.
Starts nothing, keeps nothing.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cli.embedded import NAME as VALKEY
from cli.plan.asks import ASKS
from cli.plan.curves import LARGEST, Curves, Method, Points
from cli.plan.runs import Caller, Run, closed, lone
from cli.plan.suite import Suite
from cli.plan.wire import Connection, connected
from cli.program import GATEWAY

AT_ONCE = (1, 2, 4, 8, 16)
FEW = (1, 2, 4, 8)  # of calls that take long
GAPS_S = (0.0003, 0.001, 0.004, 0.015, 0.04)  # from a reply to the next call
KEPT = 50  # quantiles of the idle latency
COMPANY = 8
KNOWN = 64
BATCHED = 1.05

Tell = Callable[[str], None]
Cost = Callable[[Run], float]


async def curves(suite: Suite, names: Iterable[str], seconds: float, tell: Tell) -> Curves:
    """Of these methods; `seconds` a point, twice that where calls take long."""
    methods, connection = {}, await connected(suite.address)
    for name in names:
        methods[name] = (await method(suite, connection, name, seconds, tell))[0]
    tell("cache")
    hit_s, keep_s, redis_s = await _remembering(suite, connection, methods, seconds)
    connection.close()
    memory = {name: round(suite.memory_mib(name), 1) for name in suite.pids}
    return Curves(provenance(seconds), methods, memory, hit_s, keep_s, redis_s)


async def method(
    suite: Suite, connection: Connection, name: str, seconds: float, tell: Tell
) -> tuple[Method, Points]:
    """The curves of one, and that of the caller himself."""
    ask, company, pauses = ASKS[name], dict[int, Run](), list[Run]()
    caller, length = Caller(suite, connection, ask), seconds * (2 if ask.shared else 1)
    tell(f"{name}, warming up")
    await closed(suite, caller, 1, length)
    for at_once in FEW if ask.shared else AT_ONCE:
        tell(f"{name}, {at_once} at once")
        company[at_once] = await closed(suite, caller, at_once, length)
    for gap_s in GAPS_S:
        tell(f"{name}, one after {gap_s * 1e3:g} ms")
        pauses.append(await lone(suite, caller, gap_s, length))
    alone = [float(np.mean(run.latencies)) for run in pauses]
    gateway = _points(company, pauses, GAPS_S, lambda run: run.cpu_s[GATEWAY])
    aside = _points(company, pauses, GAPS_S, lambda run: run.aside_s)
    slept = [gap_s + rest - run.cpu_s[ask.service] for gap_s, rest, run in zip(GAPS_S, alone, pauses, strict=True)]
    together = {_together(run, at_once): run for at_once, run in company.items()}
    served = _points(together, pauses, slept, lambda run: run.cpu_s[ask.service])
    idle = np.quantile(company[1].latencies, (np.arange(KEPT) + 0.5) / KEPT).round(7).tolist()
    most = LARGEST if ask.shared or max(together) == max(company) else round(max(together))
    before_s = round(company[1].cpu_s[ask.service] - company[1].compute_s, 7)
    alone_s = 0.0 if most == LARGEST else max(0.0, before_s)
    told = np.round(alone, 7).tolist()
    return Method(ask.service, gateway, served, idle, told, *company[1].bytes, most, alone_s, ask.shared), aside


def _together(run: Run, at_once: int) -> float:
    """How many calls shared the cost of a batch; where none are made, all that were there shared the loop's."""
    return 1 / run.inverse if 1 / run.inverse > BATCHED else at_once


def _points(company: Mapping[Any, Run], pauses: Sequence[Run], slept: Sequence[float], cost: Cost) -> Points:
    """Of a process whose part of a run is `cost` a call."""
    found = {round(size, 2): round(size * cost(run), 8) for size, run in sorted(company.items())}
    waking = [round(max(0.0, cost(run) - cost(company[min(company)])), 8) for run in pauses]
    return Points(list(found), list(found.values()), [round(one, 6) for one in slept], waking)


async def _remembering(
    suite: Suite, connection: Connection, methods: Mapping[str, Method], seconds: float
) -> tuple[float, float, float]:
    """Gateway seconds of a known answer, and of keeping a new one; Redis seconds of that. By the first method."""
    name = next(iter(methods))
    new = await closed(suite, Caller(suite, connection, ASKS[name], fresh=False), COMPANY, seconds)
    known = await closed(suite, Caller(suite, connection, ASKS[name], fresh=False, known=KNOWN), COMPANY, seconds)
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
