"""One tenant that wants more than its part, beside 1 to 200 that do not: what of it the others feel.

CountTokens through the gateway, never cached; all arrivals are Poisson processes that wait for no answer. The
others together stay far below what the gateway can do; the greedy one offers five times its quota, in a process
and on a processor of its own, as from another machine: gateway, service, Redis and the others share the rest.
"""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import tomli_w

from cli.embedded import valkey
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from services.runtime.channels import open_channel
from services.runtime.identity import keys
from tests.bench.greedy import COUNT_TOKENS, NO_STORE, arrivals
from tests.bench.load import Sample, sample
from tests.bench.options import Options
from tests.bench.servers import Server, on, pinned, running, staying_on, suite
from tests.bench.table import Table

TENANTS = (1, 20, 200)
OTHERS_RATE, QUOTA, GREEDY_RATE = 60.0, 100, 500.0
WARM_UP_S = 1.0
# Processors: the greedy one's, and everybody else's.
GREEDY, REST = 0, 1
WAYS = {"quota": f"default.requests = '{QUOTA}/second'\n", "no quota": ""}
COLUMNS = (
    "others",
    "gateway",
    "alone p50",
    "p99 ms",
    "beside p50",
    "p99 ms",
    "x p99",
    "lost",
    "greedy/s",
    "refused/s",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The others without and with the greedy one, which part of their calls failed beside it, and what that one
    got, answers and refusals a second."""

    alone: Sample
    beside: Sample
    lost: float
    answered: float
    refused: float


async def run(options: Options) -> list[Table]:
    """One table: how many others there are, with quotas and without."""
    names = ["greedy", *(f"tenant-{i}" for i in range(max(TENANTS)))]
    made = {name: keys.new(name, name, [], None) for name in names}
    found: dict[tuple[int, str], list[Pair]] = {(count, way): [] for count in TENANTS for way in WAYS}
    async with _stand(options, [entry for _, entry in made.values()]) as servers:
        for turn in range(options.repeat):
            for count, way in list(found)[:: -1 if turn % 2 else 1]:
                options.tell(f"round {turn + 1} of {options.repeat}: {count} others, {way}")
                held = [made[name][0] for name in names[: count + 1]]
                found[count, way].append(await _pair(servers[way], held, options.seconds, turn))
    return [_table(found)]


async def _pair(gateway: Server, held: Sequence[str], seconds: float, turn: int) -> Pair:
    """Both, the one first in even turns that is second in odd ones. `held`: keys, the greedy one's first."""
    told: dict[bool, tuple[Sample, float]] = {}
    ends = {"answered": 0, "refused": 0}
    for greedy in (False, True) if turn % 2 == 0 else (True, False):
        child = await _greedy(gateway, held[0], WARM_UP_S + seconds) if greedy else None
        told[greedy] = await _others(gateway, held[1:], seconds, turn)
        if child is not None:
            out, _ = await child.communicate()
            ends = json.loads(out)
    length = WARM_UP_S + seconds
    (alone, _), (beside, lost) = told[False], told[True]
    return Pair(alone, beside, lost, ends["answered"] / length, ends["refused"] / length)


async def _greedy(gateway: Server, key: str, seconds: float) -> asyncio.subprocess.Process:
    flood = (sys.executable, "-m", "tests.bench.greedy", gateway.address, str(GREEDY_RATE), str(seconds))
    child = await asyncio.create_subprocess_exec(
        *pinned(GREEDY, *flood), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin and child.stdout
    child.stdin.write(f"{key}\n".encode())
    await child.stdout.readline()
    return child


async def _others(gateway: Server, held: Sequence[str], seconds: float, seed: int) -> tuple[Sample, float]:
    """Their latencies, together, and the part of their calls that failed. RuntimeError if all did."""
    took: list[tuple[float, float]] = []
    async with open_channel(gateway.address, retry=False) as channel:
        rpc = channel.unary_unary(COUNT_TOKENS)

        async def one(number: int) -> None:
            body = pb.CountTokensRequest(texts=[f"tokens of text {number}"]).SerializeToString()
            began = perf_counter()
            await rpc(body, metadata=(*NO_STORE, ("x-api-key", held[number % len(held)])))
            took.append((began, perf_counter() - began))

        tasks, begin = [], perf_counter() + WARM_UP_S
        async for _ in arrivals(OTHERS_RATE, WARM_UP_S + seconds, seed):
            tasks.append(asyncio.create_task(one(len(tasks))))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = [end for end in ends if end is not None]
    if len(wrong) == len(ends):
        raise RuntimeError(f"every call of the others failed: {wrong[0]}")
    latencies = [length for began, length in took if began >= begin]
    return sample(latencies, len(latencies), seconds), len(wrong) / len(ends)


@asynccontextmanager
async def _stand(options: Options, listed: Sequence[Mapping[str, object]]) -> AsyncIterator[dict[str, Server]]:
    """Redis, the tokenization service, and before it a gateway for each way."""
    home = options.home.absolute() / "tenants"
    home.mkdir(parents=True, exist_ok=True)
    redis, url = valkey(home)
    made = suite(options.store, url, {**options.environment, "MAAS_MESH_KEY": secrets.token_hex(32)})
    programs = [redis, made["tokenization"]]
    callers = _written(home / "keys.toml", tomli_w.dumps({"keys": listed}))
    for way, quotas in WAYS.items():
        other = suite(options.store, url, options.environment)["gateway"]
        files = {"MAAS_API_KEYS_FILE": callers, "MAAS_QUOTAS_FILE": _written(home / f"{way}.toml", quotas)}
        wired = {"MAAS_TOKENIZATION_ADDRESS": made["tokenization"].address}
        environment = {**made["gateway"].environment, **other.environment, **files, **wired}
        environment["MAAS_MESH_KEY"] = made["gateway"].environment["MAAS_MESH_KEY"]
        programs.append(replace(other, name=way, environment=environment))
    async with running([on(REST, one) for one in programs], options.logs) as servers:
        with staying_on(REST):
            yield servers


def _written(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def _table(found: Mapping[tuple[int, str], list[Pair]]) -> Table:
    title = (
        f"tenants: others {OTHERS_RATE:g}/s together, one greedy {GREEDY_RATE:g}/s, quota {QUOTA}/s; "
        "x p99: median of the rounds' ratios"
    )
    table = Table(title, COLUMNS)
    for (count, way), pairs in found.items():

        def middle(of: Callable[[Pair], float], pairs: Sequence[Pair] = pairs) -> float:
            return median(map(of, pairs))

        shown = (
            middle(lambda pair: pair.alone.p50_ms),
            middle(lambda pair: pair.alone.p99_ms),
            middle(lambda pair: pair.beside.p50_ms),
            middle(lambda pair: pair.beside.p99_ms),
            middle(lambda pair: pair.beside.p99_ms / pair.alone.p99_ms),
            middle(lambda pair: pair.lost),
            middle(lambda pair: pair.answered),
            middle(lambda pair: pair.refused),
        )
        table.add([pair.beside for pair in pairs], count, way, *shown)
    return table
