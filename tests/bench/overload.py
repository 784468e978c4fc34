"""Goodput beyond saturation: texts to vectors and pictures to labels through the gateway, each with a deadline,
from half to four times what the service can do, with the gateway's shedding and without.

The service has a processor to itself, as on a machine of its own: what callers and gateway do for those that are
refused must not come out of what it can answer.

Arrivals are a Poisson process that does not wait for answers: nobody slows down because a server is slow.
"""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter

from grpc import StatusCode, aio

from maas.sequence.v1 import sequence_service_pb2
from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.channels import open_channel
from tests.bench.load import Sample, measure, quantile
from tests.bench.options import Options
from tests.bench.overload_plot import draw
from tests.bench.servers import Server, on, running, staying_on, suite
from tests.bench.serving import models
from tests.bench.serving.pictures import CLASSIFY, JPEG
from tests.bench.table import Table

DEADLINE_S = 1.0
# Processors: the service's, and that of gateway and callers.
BACK, FRONT = 0, 1
FACTORS = (0.5, 1.0, 1.5, 2.0, 4.0)
SATURATING = 16
WAYS = {"shedding": "true", "none": "false"}
PROSE = "It was the best of times, it was the worst of times. " * 8
EMBED = "/maas.sequence.v1.SequenceService/Embed"
NO_STORE = (("cache-control", "no-store"),)
WARM_UP_S = 1.0
COLUMNS = (
    "shedding",
    "offered x",
    "offered/s",
    "goodput/s",
    "x peak",
    "p50 ms",
    "p99 ms",
    "refused",
    "late",
    "CPU µs",
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of which service."""

    what: str
    service: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One offered load: what came, what was answered in time, and how the rest ended, a second."""

    offered: float
    answered: Sample
    refused: float
    late: float


async def run(options: Options) -> list[Table]:
    """A table for each kind of load, and a picture beside it."""
    return [await _measured(options, load) for load in _loads()]


def _loads() -> list[Load]:
    text = sequence_service_pb2.EmbedRequest(texts={"values": [PROSE]}, truncate=True)
    image = vision_pb2.Image(encoded=JPEG.read_bytes())
    picture = vision_service_pb2.ClassifyRequest(model=models.PICTURE, images=[image], top_k=1)
    return [
        Load("Embed of one text", "sequence", EMBED, text.SerializeToString()),
        Load("Classify of one JPEG", "vision", CLASSIFY, picture.SerializeToString()),
    ]


async def _measured(options: Options, load: Load) -> Table:
    async with _stand(options, load.service) as servers:
        with staying_on(FRONT):
            return await _curve(options, servers, load)


async def _curve(options: Options, servers: Mapping[str, Server], load: Load) -> Table:
    async with open_channel(servers[load.service].address, retry=False) as channel:
        rpc = channel.unary_unary(load.path)
        capacity = (await measure(lambda: rpc(load.body), SATURATING, options.seconds)).rate
    found = await _rounds(options, servers, load, capacity)
    path = options.home / f"overload-{load.service}-{datetime.now(UTC):%Y-%m-%dT%H%M%S}.png"
    lines = {way: _medians(found, way) for way in WAYS}
    draw(lines, capacity, DEADLINE_S, path)
    options.tell(f"drawn in {path}")
    return _table(found, load, capacity)


async def _rounds(
    options: Options, servers: Mapping[str, Server], load: Load, capacity: float
) -> dict[tuple[str, float], list[Point]]:
    """Every load by every way once a round, forwards and backwards in turn."""
    found: dict[tuple[str, float], list[Point]] = {(way, factor): [] for factor in FACTORS for way in WAYS}
    for turn in range(options.repeat):
        for way, factor in list(found)[:: -1 if turn % 2 else 1]:
            options.tell(f"round {turn + 1} of {options.repeat}, {factor} x, shedding {way}")
            took = (servers[way], servers[load.service])
            found[way, factor].append(await _point(took, load, factor * capacity, options.seconds, turn))
    return found


async def _point(servers: Sequence[Server], load: Load, rate: float, seconds: float, seed: int) -> Point:
    """`seconds` of arrivals at `rate`, after a warm-up of the same."""
    ends: list[tuple[float, float, StatusCode]] = []
    async with open_channel(servers[0].address, retry=False) as channel:
        rpc = channel.unary_unary(load.path)

        async def one() -> None:
            began = perf_counter()
            try:
                await rpc(load.body, timeout=DEADLINE_S, metadata=NO_STORE)
                code = StatusCode.OK
            except aio.AioRpcError as error:
                code = error.code()
            ends.append((began, perf_counter() - began, code))

        began, used = perf_counter() + WARM_UP_S, 0.0
        tasks = []
        async for now in _arrivals(rate, WARM_UP_S + seconds, seed):
            if now >= began and not used:
                used = sum(server.cpu_s() for server in servers)
            tasks.append(asyncio.create_task(one()))
        used = sum(server.cpu_s() for server in servers) - used
        await asyncio.gather(*tasks)
    return _summed([end for end in ends if end[0] >= began], seconds, used)


async def _arrivals(rate: float, seconds: float, seed: int) -> AsyncIterator[float]:
    """The moments of a Poisson process, as they come."""
    draw_gap, moment = random.Random(seed), perf_counter()
    end = moment + seconds
    while (moment := moment + draw_gap.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, moment - perf_counter()))
        yield moment


def _summed(ends: Sequence[tuple[float, float, StatusCode]], seconds: float, used: float) -> Point:
    """RuntimeError for an end that overload does not explain."""
    codes = Counter(code for _, _, code in ends)
    # One whose deadline cannot be met is refused with the same code, but long before.
    late = sum(code is StatusCode.DEADLINE_EXCEEDED and length > 0.9 * DEADLINE_S for _, length, code in ends)
    refused = codes[StatusCode.RESOURCE_EXHAUSTED] + codes[StatusCode.DEADLINE_EXCEEDED] - late
    if codes[StatusCode.OK] + refused + late < len(ends):
        raise RuntimeError(f"calls ended otherwise than answered, refused or late: {dict(codes)}")
    # Nobody answered: as slow as callers can see.
    took = sorted(length for _, length, code in ends if code is StatusCode.OK)
    tail = [quantile(took or [DEADLINE_S], share) * 1e3 for share in (0.5, 0.99)]
    answered = Sample(len(took) / seconds, *tail, used / max(1, len(took)) * 1e6)
    return Point(len(ends) / seconds, answered, refused / seconds, late / seconds)


@asynccontextmanager
async def _stand(options: Options, service: str) -> AsyncIterator[dict[str, Server]]:
    """The service on one thread, and before it a gateway for each way."""
    made = suite(options.store, extra={**options.environment, "MAAS_THREADS": "1"})
    programs = [on(BACK, made[service])]
    for way, chosen in WAYS.items():
        other = suite(options.store, extra=options.environment)["gateway"]
        changed = {f"MAAS_{service.upper()}_ADDRESS": made[service].address, "MAAS_SHED": chosen}
        programs.append(on(FRONT, replace(other, name=way, environment={**other.environment, **changed})))
    async with running(programs, options.logs) as servers:
        yield servers


def _medians(found: Mapping[tuple[str, float], list[Point]], way: str) -> list[Point]:
    """One point a load: the median of each figure over the rounds."""

    def middle(points: Sequence[Point]) -> Point:
        rates = [(p.answered.rate, p.answered.p50_ms, p.answered.p99_ms, p.answered.cpu_us) for p in points]
        answered = Sample(*map(statistics.median, zip(*rates, strict=True)))
        others = [(p.offered, p.refused, p.late) for p in points]
        offered, refused, late = map(statistics.median, zip(*others, strict=True))
        return Point(offered, answered, refused, late)

    return [middle(found[way, factor]) for factor in FACTORS]


def _table(found: Mapping[tuple[str, float], list[Point]], load: Load, capacity: float) -> Table:
    title = f"overload: {load.what}, deadline {DEADLINE_S:g} s; {capacity:.0f}/s saturate the service"
    table = Table(title, COLUMNS)
    for way in WAYS:
        points = _medians(found, way)
        peak = max(point.answered.rate for point in points)
        for factor, point in zip(FACTORS, points, strict=True):
            good = point.answered
            samples = [one.answered for one in found[way, factor]]
            shown = (good.rate, good.rate / peak, good.p50_ms, good.p99_ms, point.refused, point.late, good.cpu_us)
            table.add(samples, way, factor, point.offered, *shown)
        table.rule()
    return table
