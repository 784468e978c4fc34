"""Has the jobs done one after the other; hands over their tables and the plot."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from tests.bench.options import Options
from tests.bench.peers.prepare import Missing
from tests.bench.serving import cached, ceilings, lone, peers, pictures, plot, processes, report, rows, tokens
from tests.bench.serving.report import Result
from tests.bench.serving.stand import Bench
from tests.bench.table import Table

PROCESSES = "processes"
JOBS: Mapping[str, Callable[[Bench], Awaitable[list[Result]]]] = {
    "pictures": pictures.run,
    "rows": rows.run,
    "cached": cached.run,
    "tokens": tokens.run,
    "lone": lone.run,
}


async def run(options: Options) -> list[Table]:
    """A table for each result, all of them in short, the processes, and who was there."""
    ready, missing = await peers.prepare(options)
    bench = Bench(options, ready, missing)
    results: list[Result] = []
    for name in options.jobs or JOBS:
        if name in JOBS:
            results += await _tried(name, bench)
    tables = [report.figures(result) for result in results]
    tables += [report.best(results)] if results else []
    if PROCESSES in (options.jobs or (PROCESSES,)):
        tables.append(await processes.run(bench))
    versions = {name: peers.SERVERS[name].version(options.peers_root) for name in ready}
    versions |= ceilings.versions(options.peers_root)
    if results:
        plot.draw(
            results, ", ".join(versions.values()), options.home / f"serving-{datetime.now(UTC):%Y-%m-%dT%H%M}.png"
        )
    return [*tables, report.absences(missing, versions)]


async def _tried(name: str, bench: Bench) -> list[Result]:
    """What the job found. One that breaks says so among those who were not there, and takes no other with it."""
    try:
        return await JOBS[name](bench)
    except Exception as reason:
        bench.missing.append(Missing(f"job {name}", f"broke: {type(reason).__name__}: {reason}"[:200]))
        return []
