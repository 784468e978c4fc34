"""What telling costs: small calls of three kinds through the gateway, of which none, a few or all are traced.

Each way is a suite of its own; rounds go to and fro between them.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from statistics import median as middle

from grpc import aio

from cli.ports import any_free
from cli.program import Program
from services.runtime.channels import open_channel
from services.runtime.tracing.outlet import EVERY_S
from tests.bench.load import Sample, interleave, measure, median, ratio, spread
from tests.bench.options import Options
from tests.bench.servers import HOST, Server, running, suite
from tests.bench.table import Table
from tests.bench.telemetry import sink
from tests.bench.telemetry.mix import AREAS, NO_STORE, requests

IN_FLIGHT = (1, 16)
OFF, USUAL, ALL = "off", "default sampling", "every call"
EVERY = {"MAAS_TRACE_RATIO": "1", "MAAS_TRACE_CALLS_PER_S": "100000", "MAAS_TRACE_QUEUE": "65536"}
COLUMNS = (
    *("in flight", "traces", "requests/s", "p50 ms", "p99 ms", "CPU µs", "CPU x off", "rate x off"),
    *("spans a call", "spread"),
)
Key = tuple[int, str]


async def run(options: Options) -> list[Table]:
    """One table: in flight x how much is traced."""
    spans: dict[Key, list[float]] = {(n, way): [] for n in IN_FLIGHT for way in (OFF, USUAL, ALL)}
    async with _stand(options) as ways:
        points = {
            key: partial(_point, *ways[key[1]], key[0], options.seconds, told) for key, told in spans.items()
        }
        found = await interleave(points, options.repeat, options.tell)
    return [_table(found, spans)]


async def _point(
    servers: Sequence[Server], sink_at: str, in_flight: int, seconds: float, told: list[float]
) -> Sample:
    """CPU is that of gateway and services, what sends the spans included, until they are sent."""
    bodies, calls = requests(), 0
    async with open_channel(servers[0].address, retry=False) as channel, open_channel(sink_at) as collector:
        rpcs = {path: channel.unary_unary(path) for path, _ in (next(bodies) for _ in AREAS)}

        async def call() -> None:
            nonlocal calls
            calls += 1
            path, body = next(bodies)
            await rpcs[path](body, metadata=NO_STORE)

        before = await _count(collector)
        found = await measure(call, in_flight, seconds, lambda: sum(one.cpu_s() for one in servers))
        await asyncio.sleep(2 * EVERY_S)
        told.append((await _count(collector) - before) / calls)
    return found


async def _count(collector: aio.Channel) -> int:
    return int(await collector.unary_unary(sink.COUNT)(b""))


@asynccontextmanager
async def _stand(options: Options) -> AsyncIterator[dict[str, tuple[list[Server], str]]]:
    """The servers of each way, gateway first, and the address of the collector that all of them know."""
    address = f"{HOST}:{any_free(HOST)}"
    command = (sys.executable, "-m", sink.__name__, "--port", address.rpartition(":")[2])
    collector = Program("sink", command, address, partial(_answers, address), stop_rank=9)
    endpoint = {"MAAS_TRACE_ENDPOINT": f"http://{address}"}
    ways: Mapping[str, Mapping[str, str]] = {OFF: {}, USUAL: endpoint, ALL: endpoint | EVERY}
    programs = {way: _suite(options, way, more) for way, more in ways.items()}
    async with running([collector, *(one for some in programs.values() for one in some)], options.logs) as servers:
        yield {way: ([servers[one.name] for one in some], address) for way, some in programs.items()}


def _suite(options: Options, way: str, more: Mapping[str, str]) -> list[Program]:
    made = suite(options.store, extra={**options.environment, **more})
    return [replace(made[area], name=f"{area}-{way.replace(' ', '-')}") for area in ("gateway", *AREAS)]


async def _answers(address: str) -> bool:
    async with open_channel(address, retry=False) as channel:
        try:
            await channel.unary_unary(sink.COUNT)(b"", timeout=1)
        except aio.AioRpcError:
            return False
    return True


def _table(found: Mapping[Key, list[Sample]], spans: Mapping[Key, list[float]]) -> Table:
    table = Table("telemetry: small calls of three kinds through the gateway", COLUMNS)
    for (in_flight, way), samples in found.items():
        base, usual = found[in_flight, OFF], median(samples)
        cpu = middle(ours.cpu_us / theirs.cpu_us for ours, theirs in zip(samples, base, strict=True))
        figures = (usual.rate, usual.p50_ms, usual.p99_ms, usual.cpu_us, cpu, ratio(samples, base))
        told = middle(spans[in_flight, way])
        table.add(samples, in_flight, way, *figures, told, f"{spread(samples):.0%}")
        if way == ALL:
            table.rule()
    return table
