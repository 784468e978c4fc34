"""What a hop costs: CountTokens of one short text, direct, through the gateway and from its cache.

Floors in the same rounds: a bare echo (one hop), a bare proxy in front of it (two hops), a bare GET of Redis.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, cycle

from grpc import aio

from cli.embedded import valkey
from cli.ports import any_free
from cli.program import Program
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from services.runtime.channels import open_channel
from tests.bench import echo
from tests.bench.load import Sample, interleave, measure, median, ratio, spread
from tests.bench.options import Options
from tests.bench.servers import HOST, Server, running, suite
from tests.bench.table import Table

COUNT_TOKENS = "/maas.tokenization.v1.TokenizationService/CountTokens"
IN_FLIGHT = (1, 16)
# Of our servers; the floors are bare grpc.aio on uvloop beside both.
TRANSPORTS = {"grpc": "--transport=grpc", "native": "--transport=native"}
TEXTS = 256
NO_STORE = (("cache-control", "no-store"),)
ECHO, PROXY, GET, DIRECT = "floor: echo", "floor: proxy + echo", "floor: GET in Redis", "direct"
PASSED = ("gateway", "tokenization")
COLUMNS = (
    "transport",
    "in flight",
    "path",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "x direct",
    "x floor",
    "added p50 x",
    "spread",
)


@dataclass(frozen=True, slots=True)
class Route:
    """A way to the answer: the servers it takes, and what the gateway must say of its cache on it."""

    floor: str
    servers: tuple[str, ...]
    path: str = COUNT_TOKENS
    metadata: tuple[tuple[str, str], ...] = ()
    outcome: str = ""
    known: bool = False


ROUTES: Mapping[str, Route] = {
    ECHO: Route(ECHO, ("echo",), echo.PATH),
    DIRECT: Route(ECHO, ("tokenization",)),
    PROXY: Route(PROXY, ("proxy", "echo"), echo.PATH),
    "gateway, cache bypassed": Route(PROXY, PASSED, metadata=NO_STORE, outcome="bypass"),
    "the same, a call each": Route(PROXY, ("alone", "tokenization"), metadata=NO_STORE, outcome="bypass"),
    "gateway, miss and store": Route(PROXY, ("gateway", "tokenization", "valkey"), outcome="miss"),
    "gateway, hit in process": Route(ECHO, ("gateway",), outcome="hit-l1", known=True),
    GET: Route(GET, ("getter", "valkey"), echo.PATH),
    "gateway, hit in Redis": Route(GET, ("distant", "valkey"), outcome="hit-l2", known=True),
}


async def run(options: Options) -> list[Table]:
    """One table: transports x in flight x ways."""
    async with _stand(options) as servers:
        points = {}
        fresh = count()
        for transport in TRANSPORTS:
            for in_flight in IN_FLIGHT:
                for name, route in ROUTES.items():
                    took = [servers.get(f"{one}-{transport}") or servers[one] for one in route.servers]
                    points[transport, in_flight, name] = partial(
                        _point, route, took, in_flight, fresh, options.seconds
                    )
        found = await interleave(points, options.repeat, options.tell)
    return [_table(found)]


async def _point(
    route: Route, servers: Sequence[Server], in_flight: int, fresh: Iterator[int], seconds: float
) -> Sample:
    async with open_channel(servers[0].address, retry=False) as channel:
        rpc = channel.unary_unary(route.path)
        bodies = await _bodies(route, rpc, fresh)

        async def call() -> None:
            await rpc(next(bodies), metadata=route.metadata)

        await _check(route, rpc, bodies)
        found = await measure(call, in_flight, seconds, lambda: sum(one.cpu_s() for one in servers))
        await _check(route, rpc, bodies)
    return found


async def _bodies(route: Route, rpc: Callable[..., aio.UnaryUnaryCall], fresh: Iterator[int]) -> Iterator[bytes]:
    """Texts never seen before or, where a hit is measured, TEXTS known ones in turn: no two alike in flight."""
    if not route.known:
        return map(_request, fresh)
    known = [_request(-number) for number in range(1, TEXTS + 1)]
    for body in known:
        await rpc(body)
    return cycle(known)


def _request(number: int) -> bytes:
    text = f"The quick brown fox number {number} jumps over the lazy dog."
    return pb.CountTokensRequest(texts=[text]).SerializeToString()


async def _check(route: Route, rpc: Callable[..., aio.UnaryUnaryCall], bodies: Iterator[bytes]) -> None:
    """RuntimeError unless the answer is right and came the way that the row says."""
    call = rpc(next(bodies), metadata=route.metadata)
    reply = await call
    outcome = dict(await call.initial_metadata() or ()).get("x-maas-cache", "")
    if outcome != route.outcome:
        raise RuntimeError(f"{route.servers[0]} answered {outcome!r} where {route.outcome!r} is measured")
    if route.path == COUNT_TOKENS and pb.CountTokensResponse.FromString(reply).total < 10:
        raise RuntimeError(f"{route.servers[0]} counted too few tokens")


@asynccontextmanager
async def _stand(options: Options) -> AsyncIterator[dict[str, Server]]:
    """All servers of both transports at once: idle ones cost nothing, and rounds can go to and fro."""
    redis, url = valkey(options.home)
    programs = [redis]
    for transport, flag in TRANSPORTS.items():
        programs += _services(options, url, transport, flag) + _floors(url, transport)
    async with running(programs, options.logs) as servers:
        yield servers


def _services(options: Options, redis_url: str, transport: str, flag: str) -> list[Program]:
    """Tokenization, a gateway, and one that keeps nothing in its process, so that its hits come from Redis."""
    made = suite(options.store, redis_url, options.environment)
    other = suite(options.store, redis_url, options.environment)["gateway"]
    address = made["tokenization"].address
    changed = {"MAAS_TOKENIZATION_ADDRESS": address, "MAAS_CACHE_MEMORY_MIB": "0"}
    distant = replace(other, name="distant", environment={**other.environment, **changed})
    third = suite(options.store, redis_url, options.environment)["gateway"]
    changed = {"MAAS_TOKENIZATION_ADDRESS": address, "MAAS_COALESCE": "off"}
    alone = replace(third, name="alone", environment={**third.environment, **changed})
    chosen = (made["tokenization"], made["gateway"], distant, alone)
    return [replace(one, name=f"{one.name}-{transport}", command=(*one.command, flag)) for one in chosen]


def _floors(redis_url: str, transport: str) -> list[Program]:
    def bare(name: str, rank: int, *more: str) -> Program:
        address = f"{HOST}:{any_free(HOST)}"
        port = address.rpartition(":")[2]
        command = (sys.executable, "-m", echo.__name__, "--port", port, *more)
        return Program(f"{name}-{transport}", command, address, partial(_answers, address), stop_rank=rank)

    behind = bare("echo", 1)
    return [behind, bare("proxy", 0, "--upstream", behind.address), bare("getter", 0, "--redis", redis_url)]


async def _answers(address: str) -> bool:
    """Whether the bare server, and what is behind it, answers."""
    async with open_channel(address, retry=False) as channel:
        try:
            await channel.unary_unary(echo.PATH)(b"", timeout=1)
        except aio.AioRpcError:
            return False
    return True


def _added(p50_ms: Mapping[str, float], name: str) -> float | None:
    """What the gateway adds to a direct call, as a multiple of what the bare proxy adds to the echo."""
    if name in (ECHO, PROXY) or ROUTES[name].floor != PROXY:
        return None
    return (p50_ms[name] - p50_ms[DIRECT]) / (p50_ms[PROXY] - p50_ms[ECHO])


def _table(found: Mapping[tuple[str, int, str], list[Sample]]) -> Table:
    table = Table("hop cost: CountTokens of one short text", COLUMNS)
    for (transport, in_flight, name), samples in found.items():
        middle = median(samples)
        ours, floor = name not in (ECHO, PROXY, GET), ROUTES[name].floor
        table.add(
            samples,
            *(transport, in_flight, name, middle.rate, middle.p50_ms, middle.p99_ms, middle.cpu_us),
            ratio(samples, found[transport, in_flight, DIRECT]) if ours else None,
            ratio(samples, found[transport, in_flight, floor]) if ours else None,
            _added(
                {one: median(found[transport, in_flight, one]).p50_ms for one in (ECHO, PROXY, DIRECT, name)}, name
            ),
            f"{spread(samples):.0%}",
        )
        if name == list(ROUTES)[-1]:
            table.rule()
    return table
