"""`maas plan` against a real run: the curves of one suite measured, then three loads predicted and offered to it.

Arrivals are a Poisson process. The services have one core, the gateway and the caller the other: what the caller
itself needs is counted in.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from grpc import aio

from cli.plan.asks import ASKS
from cli.plan.curves import Curves, Method, Points
from cli.plan.fleet import GATEWAY, Fleet, Load, Outlook
from cli.plan.measure import Caller, Run, method
from cli.plan.suite import Suite, running
from services.runtime.channels import open_channel
from tests.bench.load import Sample, quantile
from tests.bench.options import Options
from tests.bench.table import Table

METHODS = ("tokenize", "classify", "embed")
LOADS = (0.3, 0.55, 0.75)
WARM_UP_S = 1.0
COLUMNS = ("method", "load", "calls/s", "what", "measured", "planned", "x measured")


@dataclass(frozen=True, slots=True)
class Found:
    """Of a load that was offered: CPU seconds a second of the service, and of what shares the gateway's core."""

    mean_ms: float
    p50_ms: float
    p99_ms: float
    service: float
    front: float
    rate: float


async def run(options: Options) -> list[Table]:
    """One table: each method by how busy its busiest process is, measured and predicted side by side."""
    table = Table("plan: predicted and measured, one replica of each", COLUMNS)
    wanted = {name: ASKS[name].service for name in options.jobs or METHODS}
    for name, service in wanted.items():
        with TemporaryDirectory() as folder:
            async with running(options.store, Path(folder), [service]) as suite:
                await _compared(options, suite, name, table)
    return [table]


async def _compared(options: Options, suite: Suite, name: str, table: Table) -> None:
    async with open_channel(suite.address, retry=False) as channel:
        measured, runs = await method(suite, channel, name, options.seconds, options.tell)
        curves = _curves(measured, name, runs)
        rates = {share: _rate(curves, name, share) for share in LOADS}
        points: dict[float, list[Found]] = {share: [] for share in LOADS}
        for turn, share in ((turn, share) for turn in range(options.repeat) for share in LOADS):
            options.tell(f"{name}, round {turn + 1}, {rates[share]:.0f}/s")
            points[share].append(await _offered(suite, channel, name, rates[share], options.seconds, turn))
    for share, found in points.items():
        _row(table, name, share, found, curves)
    table.rule()


def _curves(measured: Method, name: str, runs: Sequence[Run]) -> Curves:
    """With the caller's own need added to the gateway's: they share a core. Nothing is remembered."""
    gateway = measured.gateway
    seconds = [
        cost + size * run.aside_s for size, cost, run in zip(gateway.sizes, gateway.seconds, runs, strict=True)
    ]
    shared = replace(measured, gateway=Points(gateway.sizes, seconds))
    return Curves({}, {name: shared}, {}, 0.0, 0.0, 0.0)


def _at(curves: Curves, name: str, rate: float) -> Outlook:
    fleet = Fleet(curves, Load({name: rate}))
    return fleet.outlook(dict.fromkeys(fleet.stations, 1))


def _rate(curves: Curves, name: str, busy: float) -> float:
    """Calls a second that keep the busiest station so busy: it grows with them, so halving finds it."""
    low, high = 0.0, 1 / max(stay.load for stay in _at(curves, name, 1.0).stays.values())
    while high - low > high / 500:
        middle = (low + high) / 2
        below = max(stay.busy for stay in _at(curves, name, middle).stays.values()) < busy
        low, high = (middle, high) if below else (low, middle)
    return low


async def _offered(suite: Suite, channel: aio.Channel, name: str, rate: float, seconds: float, seed: int) -> Found:
    """`seconds` of arrivals at `rate` after a warm-up of the same; a call that fails ends the benchmark."""
    caller, found, tasks = Caller(channel, ASKS[name]), list[float](), list[asyncio.Task[None]]()

    async def one(due: float) -> None:
        await caller()
        found.append(time.perf_counter() - due)

    async def arrive(length: float, seed: int) -> None:
        for due in _moments(rate, length, seed):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))

    await arrive(WARM_UP_S, seed + 1000)
    await asyncio.gather(*tasks)
    found.clear()
    service, began = ASKS[name].service, time.perf_counter()
    before = suite.cpu_s(service), suite.cpu_s(GATEWAY) + time.process_time()
    await arrive(seconds, seed)
    after = suite.cpu_s(service), suite.cpu_s(GATEWAY) + time.process_time()
    length = time.perf_counter() - began
    await asyncio.gather(*tasks)
    ordered = sorted(found)
    used, front = ((late - early) / length for early, late in zip(before, after, strict=True))
    return Found(
        fmean(found) * 1e3,
        quantile(ordered, 0.5) * 1e3,
        quantile(ordered, 0.99) * 1e3,
        used,
        front,
        len(found) / length,
    )


def _moments(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Of a Poisson process from now on; latencies count from when a call was due, not from when it was sent."""
    draw, moment = random.Random(seed), time.perf_counter()
    end = moment + seconds
    while (moment := moment + draw.expovariate(rate)) < end:
        yield moment


def _row(table: Table, name: str, share: float, found: Sequence[Found], curves: Curves) -> None:
    """Medians over the rounds beside what the model says of the rate that really came."""
    rate, service, front, mean_ms, p99_ms = (
        median(getattr(one, key) for one in found) for key in ("rate", "service", "front", "mean_ms", "p99_ms")
    )
    told = _at(curves, name, rate)
    rows = (
        ("service busy", service, told.stays[ASKS[name].service].busy),
        ("gateway's core busy", front, told.stays[GATEWAY].busy),
        ("mean ms", mean_ms, told.mean_ms(name)),
        ("p99 ms", p99_ms, told.quantile_ms(name, 0.99)),
    )
    samples = [Sample(one.rate, one.p50_ms, one.p99_ms) for one in found]
    for what, seen, said in rows:
        table.add(samples, name, share, rate, what, seen, said, said / seen)
