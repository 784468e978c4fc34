"""`maas plan` against a real run: the curves of one suite measured, then three loads predicted and offered to it.

Arrivals are a Poisson process. The services have one core, the gateway and the caller the other: what the caller
itself needs is counted in.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from cli.plan.asks import ASKS
from cli.plan.curves import Curves, Points
from cli.plan.fleet import Fleet, Outlook
from cli.plan.measure import method
from cli.plan.runs import Caller, precise
from cli.plan.stations import GATEWAY, Load
from cli.plan.suite import Suite, running
from cli.plan.wire import Connection, connected
from services.runtime.garbage import settle
from tests.bench.load import Sample, quantile
from tests.bench.options import Options
from tests.bench.table import Table

METHODS = ("tokenize", "classify", "embed")
LOADS = (0.3, 0.6, 0.8)
LEAST_S = 20.0  # of a load, in each round: the busier a queue, the longer it remembers
WARM_UP_S = 1.0
WHAT = {
    "service": "service busy",
    "gateway": "gateway busy",
    "mean_ms": "mean ms",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}
COLUMNS = ("method", "load", "calls/s", "what", "measured", "planned", "x measured")


@dataclass(frozen=True, slots=True)
class Found:
    """Of a load, offered or planned: CPU seconds a second of service and gateway."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    service: float
    gateway: float
    rate: float


# What was measured, and what was planned.
Pair = tuple[Found, Found]


async def run(options: Options) -> list[Table]:
    """One table: each method by how busy its busiest core is, measured and predicted side by side."""
    return [await asyncio.to_thread(_run, options)]


def _run(options: Options) -> Table:
    """On a loop of its own, whose timers are exact."""
    table = Table("plan: predicted and measured, one replica of each", COLUMNS)
    with asyncio.Runner(loop_factory=precise) as runner:
        for name in options.jobs or METHODS:
            runner.run(_one(options, name, table))
    return table


async def _one(options: Options, name: str, table: Table) -> None:
    with TemporaryDirectory() as folder:
        async with running(options.store, Path(folder), [ASKS[name].service]) as suite:
            await _compared(options, suite, name, table)


async def _compared(options: Options, suite: Suite, name: str, table: Table) -> None:
    """Each round draws its own curves: a shared machine is a tenth faster in one minute than in another."""
    rates: dict[float, float] = {}
    pairs: dict[float, list[Pair]] = {share: [] for share in LOADS}
    for turn in range(options.repeat):
        curves, aside = await _drawn(options, suite, name)
        rates = rates or {share: _rate(curves, aside, name, share) for share in LOADS}
        connection = await connected(suite.address)  # nobody answered pings while the rates were found
        for share, rate in rates.items():
            options.tell(f"{name}, round {turn + 1}, {rate:.0f}/s")
            seconds = max(options.seconds, LEAST_S)
            found = await _offered(suite, connection, name, rate, seconds, turn)
            pairs[share].append((found, _planned(curves, aside, name, found.rate)))
        connection.close()
    for share, those in pairs.items():
        _rows(table, name, share, those)
    table.rule()


async def _drawn(options: Options, suite: Suite, name: str) -> tuple[Curves, Points]:
    connection = await connected(suite.address)
    measured, aside = await method(suite, connection, name, options.seconds, options.tell)
    connection.close()
    return Curves({}, {name: measured}, {}, 0.0, 0.0, 0.0), aside


def _at(curves: Curves, aside: Points, name: str, rate: float) -> Outlook:
    fleet = Fleet(curves, Load({name: rate}), aside)
    return fleet.outlook(dict.fromkeys(fleet.stations, 1))


def _rate(curves: Curves, aside: Points, name: str, share: float) -> float:
    """Calls a second that keep the busier core busy for `share` of the time: found by halving."""
    fleet = Fleet(curves, Load({name: 1.0}), aside)
    low, high = 0.0, 1 / max(fleet.used(station) for station in fleet.stations)
    while high - low > high / 50:
        middle = (low + high) / 2
        busy = {station: stay.busy for station, stay in _at(curves, aside, name, middle).stays.items()}
        front = busy[GATEWAY] + middle * aside.batches()[0]
        low, high = (middle, high) if max(front, busy[ASKS[name].service]) < share else (low, middle)
    return low


async def _offered(
    suite: Suite, connection: Connection, name: str, rate: float, seconds: float, seed: int
) -> Found:
    """`seconds` of arrivals at `rate` after a warm-up of the same; a call that fails ends the benchmark."""
    caller, found, tasks = Caller(suite, connection, ASKS[name]), list[float](), set[asyncio.Task[None]]()

    async def one(due: float) -> None:
        await caller()
        found.append(time.perf_counter() - due)

    async def arrive(length: float, seed: int) -> None:
        for due in _moments(rate, length, seed):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.add(task := asyncio.create_task(one(due)))
            task.add_done_callback(tasks.discard)

    settle()  # a full collection of the caller's own would hold every call up
    await arrive(WARM_UP_S, seed + 1000)
    await asyncio.gather(*tasks)
    found.clear()
    names, began = (ASKS[name].service, GATEWAY), time.perf_counter()
    before = [suite.cpu_s(one) for one in names]
    await arrive(seconds, seed)
    after = [suite.cpu_s(one) for one in names]
    length = time.perf_counter() - began
    await asyncio.gather(*tasks)
    ordered = sorted(found)
    service, gateway = ((late - early) / length for early, late in zip(before, after, strict=True))
    quantiles = (quantile(ordered, share) * 1e3 for share in (0.5, 0.99))
    return Found(fmean(found) * 1e3, *quantiles, service, gateway, len(found) / length)


def _moments(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Of a Poisson process from now on; latencies count from when a call was due, not from when it was sent."""
    draw, moment = random.Random(seed), time.perf_counter()
    end = moment + seconds
    while (moment := moment + draw.expovariate(rate)) < end:
        yield moment


def _planned(curves: Curves, aside: Points, name: str, rate: float) -> Found:
    """What the model says of the rate that really came."""
    told = _at(curves, aside, name, rate)
    service, gateway = told.stays[ASKS[name].service].busy, told.stays[GATEWAY].busy
    p50_ms, p99_ms = (told.quantile_ms(name, share) for share in (0.5, 0.99))
    return Found(told.mean_ms(name), p50_ms, p99_ms, service, gateway, rate)


def _rows(table: Table, name: str, share: float, pairs: Sequence[Pair]) -> None:
    """Medians over the rounds, of the ratios too."""
    rate = median(found.rate for found, _ in pairs)
    samples = [Sample(found.rate, found.p50_ms, found.p99_ms) for found, _ in pairs]
    for what, told in WHAT.items():
        both = [(getattr(found, what), getattr(planned, what)) for found, planned in pairs]
        ratio = median(said / seen for seen, said in both)
        table.add(
            samples, name, share, rate, told, median(one for one, _ in both), median(one for _, one in both), ratio
        )
