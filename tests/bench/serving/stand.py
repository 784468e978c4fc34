"""The servers of one job, all up at once: ours, and the others held still until their turn. Measures nothing."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from cli.program import Program
from tests.bench import family
from tests.bench.options import Options
from tests.bench.peers.prepare import Missing
from tests.bench.peers.serving.spec import Model
from tests.bench.servers import Server, running
from tests.bench.serving import peers


@dataclass(frozen=True, slots=True)
class Bench:
    """What every job is told: `peers` can be started; those that turn out not to go to `missing`."""

    options: Options
    peers: Sequence[str]
    missing: list[Missing] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stand:
    """Servers by name, ours and `peer-…`; `pool`: threads on which a client prepares what it sends."""

    servers: Mapping[str, Server]
    peers: Sequence[str]
    pool: ThreadPoolExecutor

    def ways(self, model: Model) -> Iterator[tuple[str, Server, str]]:
        """The name of a way, its server, and what the model is called there: Triton serves each in two forms."""
        for name in self.peers:
            yield ("triton tuned" if name == "triton" else name), self.peer(name), model.name
            if name == "triton":
                yield "triton defaults", self.peer(name), f"{model.name}-defaults"

    def peer(self, name: str) -> Server:
        return self.servers[f"peer-{name}"]


@asynccontextmanager
async def stand(
    bench: Bench, ours: Iterable[Program], models: Sequence[Model], names: Iterable[str] | None = None
) -> AsyncIterator[Stand]:
    """`names`: those of the peers that this job is for, None = all. One that does not start is only told of."""
    wanted = [name for name in bench.peers if names is None or name in names]
    async with AsyncExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in wanted:
            bench.options.tell(f"starting {name}")
            if found := await _peer(stack, name, models, bench):
                servers[f"peer-{name}"] = found
        bench.options.tell("starting ours")
        servers |= await stack.enter_async_context(running(ours, bench.options.logs))
        pool = stack.enter_context(ThreadPoolExecutor(peers.CORES))
        yield Stand(servers, [name for name in wanted if f"peer-{name}" in servers], pool)


async def _peer(stack: AsyncExitStack, name: str, models: Sequence[Model], bench: Bench) -> Server | None:
    """Started, and held still; None if it does not serve."""
    one = peers.program(name, models, bench.options)
    try:
        server = (await stack.enter_async_context(running([one], bench.options.logs)))[one.name]
    except RuntimeError as reason:
        missing = Missing(name, f"does not start: {str(reason).splitlines()[-1]}"[:80])
        if missing not in bench.missing:
            bench.missing.append(missing)
        return None
    stack.callback(family.let_go, server.process.pid)
    family.hold(server.process.pid)
    return server
