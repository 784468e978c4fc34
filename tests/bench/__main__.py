"""`python -m tests.bench`: what serving costs, as ratios within one run. `README.md` says how to read it."""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop
from rich.console import Console
from rich.status import Status

from services.runtime.store.store import ModelStore
from tests.bench import hop, overload, plan, tenants, vision
from tests.bench.generation import run as generation
from tests.bench.options import Options
from tests.bench.peers.catalogue import PEERS
from tests.bench.serving import run as serving
from tests.bench.serving.peers import SERVERS
from tests.bench.table import Table, append, machine
from tests.bench.telemetry import run as telemetry

PARTS: Mapping[str, Callable[[Options], Awaitable[list[Table]]]] = {
    "gateway": hop.run,
    "generation": generation.run,
    "vision": vision.run,
    "serving": serving.run,
    "overload": overload.run,
    "tenants": tenants.run,
    "telemetry": telemetry.run,
    "plan": plan.run,
}
KNOWN = {"peers": {*PEERS, *SERVERS}, "jobs": {*serving.JOBS, serving.PROCESSES, *plan.METHODS}}

# Columns of a terminal that every table fits; also what a file or a pipe gets.
WIDTH = 120


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; none = all")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a point (default: 5)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown (default: 3)")
    parser.add_argument("--threads", type=int, help="compute threads of services and floors (default: as served)")
    parser.add_argument("--store", type=Path, default=Path(".maas/store"), help="the models")
    parser.add_argument("--home", type=Path, default=Path(".maas/bench"), help="where results and logs go")
    parser.add_argument("--peers", help=f"by commas, made if need be: {', '.join((*PEERS, *SERVERS))}")
    parser.add_argument("--jobs", help=f"of serving, by commas: {', '.join((*serving.JOBS, serving.PROCESSES))}")
    parser.add_argument("--precision", default="auto", help="of our own generation (default: auto)")
    given = parser.parse_args()
    given.peers, given.jobs = (
        None if one is None else tuple(filter(None, one.split(","))) for one in (given.peers, given.jobs)
    )
    asked = [(given.parts, set(PARTS)), (given.peers, KNOWN["peers"]), (given.jobs, KNOWN["jobs"])]
    unknown = sorted(one for wish, known in asked for one in set(wish or ()) - known)
    if unknown or given.seconds <= 0 or given.repeat < 1 or (given.threads or 1) < 1:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "give positive numbers")
    if not ModelStore(given.store).names():
        parser.error(f"no models in {given.store}: run `make models`")
    return given


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(filter(None, text.split(",")))


async def measure(given: argparse.Namespace, console: Console) -> None:
    """Runs the parts one after the other; each is shown, and kept, when it is done."""
    _cancel_on_signals()
    store = given.store.absolute()
    options = Options(
        *(store, given.home, given.seconds, given.repeat, given.threads),
        tell=lambda _: None,
        peers=given.peers,
        jobs=given.jobs or (),
        precision=given.precision,
    )
    asked = {"seconds": given.seconds, "repeat": given.repeat, "threads": given.threads}
    for name in given.parts or PARTS:
        about = {"part": name, **asked, **machine()}
        with console.status(name, refresh_per_second=1) as status:
            told = replace(options, tell=partial(_tell, status, name))
            tables = await PARTS[name](told)
        for table in tables:
            table.show(console)
        path = append(given.home, {**about, "tables": [table.record() for table in tables]})
        console.print(f"load before: {about['load_before']:.1f}; kept in {path}\n")


def _cancel_on_signals() -> None:
    """A benchmark that is stopped takes its servers with it: they live in sessions of their own."""
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _tell(status: Status, part: str, text: str) -> None:
    status.update(f"{part}: {text}")


def main() -> None:
    given = parse()
    (given.home / "logs").mkdir(parents=True, exist_ok=True)
    console = Console(width=max(WIDTH, Console().width))
    try:
        uvloop.run(measure(given, console))
    except asyncio.CancelledError:
        console.print("stopped")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
