"""`python -m tests.bench.transport`: the same handlers on either transport, called by h2load."""

import argparse
import asyncio
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from services.runtime.channels import open_channel
from tests.bench.servers import Server, running
from tests.bench.table import Table
from tests.bench.transport.calls import GRPC, Way, programs, ways

IN_FLIGHT = (1, 32)
WARM_UP = 500
COLUMNS = ("call", "in flight", "transport", "requests/s", "CPU µs", "x grpc.aio", "CPU x", "spread")
Key = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Found:
    """Calls a second; CPU of the server a call, by /proc."""

    rate: float
    cpu_us: float


async def point(way: Way, server: Server, in_flight: int, seconds: float, folder: Path) -> Found:
    """One measurement, after a short one that warms up. RuntimeError where a call fails."""
    await _check(way, server)
    body = folder / "body"
    body.write_bytes(b"\0" + len(way.body).to_bytes(4, "big") + way.body)
    count = max(WARM_UP, round(seconds * await _load(way, server.address, body, in_flight, WARM_UP)))
    used = server.cpu_s()
    rate = await _load(way, server.address, body, in_flight, count)
    return Found(rate, (server.cpu_s() - used) / count * 1e6)


async def _check(way: Way, server: Server) -> None:
    """Asks three times, as the memory of a gateway wants it; `h2load` does not look at a call's status."""
    headers = tuple((name, value) for name, _, value in (one.partition(": ") for one in way.headers))
    async with open_channel(server.address, retry=False) as channel:
        for _ in range(3):
            reply = await channel.unary_unary(way.path)(way.body, metadata=headers, timeout=10)
    if not reply:
        raise RuntimeError(f"{way.call} on {way.transport} answered nothing")


async def _load(way: Way, address: str, body: Path, in_flight: int, count: int) -> float:
    """How many of `count` calls were answered a second."""
    headers = ("content-type: application/grpc", "te: trailers", *way.headers)
    command = ["h2load", "-t1", "-c1", f"-m{in_flight}", f"-n{count}", f"-d{body}", "-w24", "-W26"]
    command += [word for one in headers for word in ("-H", one)]
    process = await asyncio.create_subprocess_exec(
        *command, f"http://{address}{way.path}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    text = (await process.communicate())[0].decode()
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored", text)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    if not done or not rate or int(done[1]) != count:
        raise RuntimeError(f"{way.call} on {way.transport}: h2load says\n{text}")
    return float(rate[1])


async def measure(given: argparse.Namespace) -> Table:
    chosen = [way for way in ways() if any(word in way.call for word in given.only.split(","))]
    needed = {way.server for way in chosen} | {f"tokenization-{GRPC}"}
    wanted = [one for one in programs(given.store.absolute(), given.small.absolute()) if one.name in needed]
    given.logs.mkdir(parents=True, exist_ok=True)
    found: dict[Key, list[Found]] = {}
    async with running(wanted, given.logs) as servers:
        with TemporaryDirectory() as folder:
            for turn in range(given.repeat):
                for in_flight in IN_FLIGHT:
                    for way in chosen[:: -1 if turn % 2 else 1]:
                        one = await point(way, servers[way.server], in_flight, given.seconds, Path(folder))
                        found.setdefault((way.call, in_flight, way.transport), []).append(one)
    return _table(found)


def _table(found: Mapping[Key, list[Found]]) -> Table:
    """Ratios are medians over the rounds, of two points of one round."""
    table = Table("the same handlers on two transports", COLUMNS)
    for (call, in_flight, transport), ours in sorted(found.items()):
        pairs = list(zip(ours, found[call, in_flight, GRPC], strict=True))
        rate, cpu = (statistics.median(getattr(one, name) for one in ours) for name in ("rate", "cpu_us"))
        times = statistics.median(a.rate / b.rate for a, b in pairs)
        share = statistics.median(a.cpu_us / b.cpu_us for a, b in pairs)
        spread = (max(one.rate for one in ours) - min(one.rate for one in ours)) / rate
        table.add([], call, in_flight, transport, rate, cpu, times, share, f"{spread:.0%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transport", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a point (default: 2)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown (default: 3)")
    parser.add_argument("--only", default="", help="calls whose names have one of these words, by commas")
    parser.add_argument("--store", type=Path, default=Path(".maas/store"), help="the models")
    parser.add_argument("--small", type=Path, default=Path(".maas/bench/serving/store"), help="LSTM and MLP")
    parser.add_argument("--logs", type=Path, default=Path(".maas/bench/logs/transport"), help="folder of logs")
    asyncio.run(measure(parser.parse_args())).show(Console(width=120))


if __name__ == "__main__":
    main()
