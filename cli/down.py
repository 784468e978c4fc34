"""`maas down` and `maas status`: stop a running suite, say how it is."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli import replicas, runfile
from cli.board import coloured
from cli.options import HOME, Home, Json
from cli.probe import grpc_health
from cli.program import PORTS
from cli.render import err, out, print_json, table
from cli.runfile import Process, Run
from cli.tls import tls_of
from services.runtime.errors import Unavailable

MODEL = "maas.model/"
Force = Annotated[bool, typer.Option("--force", help="Do not wait for calls in progress.")]
Wait = Annotated[float, typer.Option(help="Longest wait, seconds.")]


def down(force: Force = False, wait: Wait = 90.0, home: Home = HOME, json: Json = False) -> None:
    """Stop the suite that runs from this directory."""
    run = runfile.load(home)
    ended = stop(run, home, wait, force) if run else []
    if json:
        return print_json({"was_up": run is not None, "ended": ended})
    for name in ended:
        out().print(f"ended {name}")
    return out().print("stopped" if run else "nothing is up")


def stop(run: Run, home: Path, wait: float, force: bool) -> list[str]:
    """Ends a suite and what it left; the names of what had to be killed."""
    if run.supervisor.alive:
        with err().status("stopping: calls in progress may end …"):
            stop_supervisor(run.supervisor, wait, force)
    ended = runfile.end_leftovers(run)
    runfile.clear(home)
    return ended


def stop_supervisor(supervisor: Process, wait: float, force: bool) -> None:
    """SIGTERM, twice to force; returns when it is gone. Unavailable if it is still there after `wait`."""
    for pause_s in [0.0, 0.1] if force else [0.0]:
        time.sleep(pause_s)
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
    if not runfile.wait_gone([supervisor], wait):
        raise Unavailable(f"the suite (pid {supervisor.pid}) did not stop in {wait:.0f} s; try --force")


def status(home: Home = HOME, json: Json = False) -> None:
    """What is up, by the programs' own word; exit code 1 unless all of it serves."""
    run = runfile.load(home)
    seen = asyncio.run(look(run))
    tls = tls_of({**os.environ, **(run.tls if run else {})})
    behind = asyncio.run(replicas.behind(str(seen["gateway"]["address"]), tls))
    if json:
        seen["gateway"]["replicas"] = behind or []
        print_json(seen)
    else:
        show(home, run, seen)
        if behind:
            out().print("\nbehind the gateway", replicas.shown(behind), sep="\n")
    if not all(program["serving"] for program in seen.values()):
        raise typer.Exit(1)


async def look(run: Run | None) -> dict[str, dict[str, object]]:
    """Program → address, pid, restarts, whether it serves, and its models."""
    processes = run.programs if run else {}
    known = {name: Process(address=f"127.0.0.1:{port}") for name, port in PORTS.items()}
    found = {name: processes.get(name, process) for name, process in known.items()}
    tls = tls_of({**os.environ, **(run.tls if run else {})})
    health = await asyncio.gather(*(grpc_health(process.address, tls) for process in found.values()))
    return {name: describe(found[name], states) for name, states in zip(found, health, strict=True)}


def describe(process: Process, states: dict[str, bool] | None) -> dict[str, object]:
    """One program as `maas status --json` prints it."""
    models = {name.removeprefix(MODEL): ok for name, ok in (states or {}).items() if name.startswith(MODEL)}
    return {
        "address": process.address,
        "pid": process.pid,
        "restarts": process.restarts,
        "reachable": states is not None,
        "serving": bool(states and states.get("")),
        "models": models,
    }


def show(home: Path, run: Run | None, seen: dict[str, dict[str, object]]) -> None:
    """The same as a table."""
    rows = [
        [name, str(row["address"]), health_word(row), str(row["pid"] or ""), models_word(row["models"])]
        for name, row in seen.items()
    ]
    out().print(table(["program", "address", "health", "pid", "models"], rows, right=["pid"]))
    if run is None:
        out().print(f"no suite runs from {home}; asked the default ports")
    elif "valkey" in run.programs:
        out().print(f"valkey {run.programs['valkey'].address} {run.programs['valkey'].state}")


def health_word(row: dict[str, object]) -> str:
    """serving, not serving, or down."""
    return coloured("serving" if row["serving"] else "not serving" if row["reachable"] else "down")


def models_word(models: object) -> str:
    """Names; one that does not serve is marked."""
    named = models if isinstance(models, dict) else {}
    return ", ".join(name if ok else f"[red]{name} (not serving)[/red]" for name, ok in sorted(named.items()))
