"""Starts our service and the peers, has the workload played, hands over the tables and the plot."""

from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from maas.generation.v1 import generation_service_pb2_grpc
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from tests.bench.generation import engines, plot, report, structured, workload
from tests.bench.generation.drafting import Drafting
from tests.bench.generation.engines import Engine, InProcess, Streamed, Unary
from tests.bench.generation.measure import Bench
from tests.bench.generation.report import BARE, OURS, PLAIN, STREAMED
from tests.bench.options import Options
from tests.bench.peers.prepare import Missing, prepare
from tests.bench.servers import Server, running, suite
from tests.bench.table import Table

THREADS = 2
COSTLY = "decode 32"
FIRST, AGAIN = "prefix, first", "prefix, again"


async def run(options: Options) -> list[Table]:
    """Every point x every engine; then our service, unary and streamed, against our engine alone."""
    work, threads = workload.load(), options.threads or THREADS
    environment = {"MAAS_PRECISION": options.precision, "MAAS_THREADS": str(threads)}
    program = suite(options.store, extra=environment)["generation"]
    plain = suite(options.store, extra=environment | {"MAAS_SPECULATION": "false"})["generation"]
    plain = replace(plain, name="generation-plain")
    store = ModelStore(options.store)
    ready, missing = await prepare(options.peers, store, work.model, options.peers_root, options.tell)
    async with AsyncExitStack() as stack:
        peers: dict[str, InProcess] = {}
        for one in ready:
            options.tell(f"starting {one.name}")
            try:
                peers[one.name] = await stack.enter_async_context(engines.peer(one, threads, options))
            except RuntimeError as reason:
                missing.append(Missing(one.name, f"does not start: {str(reason).splitlines()[-1]}"[:80]))
        began = perf_counter()
        server = (await stack.enter_async_context(running([program], options.logs)))["generation"]
        start_s = perf_counter() - began
        other = (await stack.enter_async_context(running([plain], options.logs)))["generation-plain"]
        stub, plain_stub = [await _stub(stack, one) for one in (server, other)]
        ours = Unary(stub, work.model)
        every: dict[str, Engine] = {OURS: ours, PLAIN: Unary(plain_stub, work.model), **peers}
        bench = Bench(work, every)
        found = await bench.run(list(work.points), options)
        bare = await stack.enter_async_context(engines.own(work.model, program.environment, options))
        ways: dict[str, Engine] = {BARE: bare, OURS: ours, STREAMED: Streamed(stub, work.model)}
        costly = [point for point in work.points if point.name == COSTLY]
        costs = await Bench(work, ways, apart=True).run(costly, options)
        constraints = await structured.table(work.model, plain_stub, options)
        drafts = await Drafting(work.model, {OURS: stub, PLAIN: plain_stub}).table(PLAIN, options)
        peak_mib = _peak_mib(server)
    title = f"{work.model}, greedy, EOS ignored, {threads} threads; ours {options.precision}"
    shown = [point for point in work.points if point.name not in (FIRST, AGAIN)]
    tables = [report.figures(shown, every, found, bench, f"generation: {title}")]
    tables += [report.best(shown, list(peers), found)] if peers else []
    plot.draw(shown, list(every), found, title, _picture(options.home))
    return [
        *tables,
        report.prefixes(FIRST, AGAIN, every, found),
        report.costs(costly[0], costs),
        drafts,
        constraints,
        report.states((start_s, peak_mib), peers.items(), missing),
    ]


async def _stub(stack: AsyncExitStack, server: Server) -> Any:
    channel = await stack.enter_async_context(open_channel(server.address, retry=False))
    return generation_service_pb2_grpc.GenerationServiceStub(channel)


def _peak_mib(server: Server) -> float:
    """Peak resident memory of the server so far: VmHWM of proc(5)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _picture(home: Path) -> Path:
    return home / f"generation-{datetime.now(UTC):%Y-%m-%dT%H%M}.png"
