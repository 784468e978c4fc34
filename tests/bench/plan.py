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
from tests.bench.load import Sample, quantile
from tests.bench.options import Options
from tests.bench.table import Table

METHODS = ("tokenize", "classify", "embed")
LOADS = (0.3, 0.6, 0.8)
FEWEST = 2000  # calls of a load, over all rounds
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
    """Of a load that was offered: CPU seconds a second of service and gateway."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    service: float
    gateway: float
    rate: float


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
    measured, aside = await method(suite, await connected(suite.address), name, options.seconds, options.tell)
    curves = Curves({}, {name: measured}, {}, 0.0, 0.0, 0.0)
    rates = {share: _rate(curves, aside, name, share) for share in LOADS}
    connection = await connected(suite.address)  # nobody answered pings while the rates were found
    points: dict[float, list[Found]] = {share: [] for share in LOADS}
    for turn, share in ((turn, share) for turn in range(options.repeat) for share in LOADS):
        options.tell(f"{name}, round {turn + 1}, {rates[share]:.0f}/s")
        seconds = max(options.seconds, FEWEST / rates[share] / options.repeat)
        points[share].append(await _offered(suite, connection, name, rates[share], seconds, turn))
    connection.close()
    for share, found in points.items():
        _row(table, name, share, found, curves, aside)
    table.rule()


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


def _row(table: Table, name: str, share: float, found: Sequence[Found], curves: Curves, aside: Points) -> None:
    """Medians over the rounds beside what the model says of the rate that really came."""
    rate = median(one.rate for one in found)
    told = _at(curves, aside, name, rate)
    planned = {
        "service": told.stays[ASKS[name].service].busy,
        "gateway": told.stays[GATEWAY].busy,
        "mean_ms": told.mean_ms(name),
        "p50_ms": told.quantile_ms(name, 0.5),
        "p99_ms": told.quantile_ms(name, 0.99),
    }
    samples = [Sample(one.rate, one.p50_ms, one.p99_ms) for one in found]
    for what, said in planned.items():
        seen = median(getattr(one, what) for one in found)
        table.add(samples, name, share, rate, WHAT[what], seen, said, said / seen)
