"""`maas up`: models, embedded Valkey and five processes, in the foreground or detached."""

import asyncio
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import certs, ports, pulling, runfile
from cli.board import Board, process_table, show_summary
from cli.embedded import valkey
from cli.options import CACHE, HOME, ROOT, Cache, Home, Json, Root
from cli.prepare import make_ready
from cli.program import GATEWAY, METRICS_OFFSET, PORTS, Program, services
from cli.render import err, out, print_json
from cli.supervisor import Supervisor, tail
from services.runtime.compiled import NoCompiler
from services.runtime.errors import InvalidInput, PreconditionFailed, Unavailable
from services.runtime.h2 import native
from services.runtime.store import catalogue
from services.runtime.store.store import ModelStore

# Above the longest orderly stop of a server: lame duck 3 s, drain 25 s.
PATIENCE_S = 35.0

Host = Annotated[str, typer.Option(envvar="MAAS_HOST", help="Address to listen on.")]
Redis = Annotated[str, typer.Option(envvar="MAAS_REDIS_URL", help="Redis; unset: an embedded Valkey.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return once everything serves.")]
Tls = Annotated[bool, typer.Option("--tls", help="TLS on every port, by certificates that `maas certs` makes.")]
Pull = Annotated[bool, typer.Option(help="Fetch the default models that are missing.")]


def port_option(name: str) -> typer.models.OptionInfo:
    """`--NAME-port`, or MAAS_NAME_PORT."""
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}-port", envvar=f"MAAS_{name.upper()}_PORT", min=1, max=65535, help=f"Port of {name}."
    )
    return option


def up(
    gateway: Annotated[int, port_option("gateway")] = PORTS["gateway"],
    tokenization: Annotated[int, port_option("tokenization")] = PORTS["tokenization"],
    vision: Annotated[int, port_option("vision")] = PORTS["vision"],
    sequence: Annotated[int, port_option("sequence")] = PORTS["sequence"],
    generation: Annotated[int, port_option("generation")] = PORTS["generation"],
    host: Host = "127.0.0.1",
    redis_url: Redis = "",
    tls: Tls = False,
    detach: Detach = False,
    pull: Pull = True,
    json: Json = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    home: Home = HOME,
) -> None:
    """Run the whole suite on this machine; Ctrl-C stops it."""
    if json and not detach:
        raise InvalidInput("--json", "says what is up once it is: give --detach too")
    chosen = {
        "tokenization": tokenization,
        "vision": vision,
        "sequence": sequence,
        "generation": generation,
        "gateway": gateway,
    }
    refuse_second(home)
    ports.check(host, chosen, METRICS_OFFSET)
    if pull:
        pulling.pull(ModelStore(root), cache.expanduser(), list(catalogue.load()))
        make_ready(ModelStore(root))
    # Once, here, and told: five programs would each build it.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("maas.build").setLevel(logging.INFO)
    with suppress(NoCompiler):
        native.load()
    if detach:
        return run_detached(home, json)
    return asyncio.run(run(home, plan(home, host, chosen, root, redis_url, tls)))


def refuse_second(home: Path) -> None:
    """PreconditionFailed while a suite runs from `home`; what a dead one left behind is ended."""
    before = runfile.load(home)
    if before is None:
        return
    if before.supervisor.alive and before.supervisor.pid != os.getpid():
        pid = before.supervisor.pid
        raise PreconditionFailed(f"the suite is up already (pid {pid}): see `maas status`, stop it by `maas down`")
    for name in runfile.end_leftovers(before):
        err().print(f"ended {name}, left by a suite that was killed")
    runfile.clear(home)


def plan(
    home: Path, host: str, chosen: Mapping[str, int], root: Path, redis_url: str, tls: bool = False
) -> list[Program]:
    """The programs to run, Valkey among them unless a Redis is named; `tls`: by certificates of `maas certs`."""
    home.mkdir(parents=True, exist_ok=True)
    embedded: list[Program] = []
    if not redis_url:
        program, redis_url = valkey(home)
        embedded = [program]
    # By which the services believe the gateway's word for a tenant.
    environ = {
        "MAAS_MESH_KEY": secrets.token_hex(32),
        **os.environ,
        **(certs.ensure(home / "certs") if tls else {}),
    }
    return [*embedded, *services(host, chosen, root.absolute(), redis_url, environ)]


async def run(home: Path, programs: list[Program]) -> None:
    """Supervise in this process until a signal."""
    console = out()
    board = Board(console)
    supervisor = Supervisor(programs, home, PATIENCE_S, board.told)
    gateway = next(program.address for program in programs if program.name == GATEWAY)

    def ready() -> None:
        board.settle()
        show_summary(console, gateway, str(home / "logs"), supervisor.run_record.tls)
        console.print("Ctrl-C stops everything.")

    board.start()
    try:
        await supervisor.run(ready)
    finally:
        board.settle()
    console.print("stopped")


def run_detached(home: Path, json: bool = False) -> None:
    """Start this command again in a session of its own, let go of it once everything serves."""
    log = home / "logs" / "maas.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "--json")]
    command = [sys.executable, "-m", "cli", *arguments, "--no-pull"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    while process.poll() is None:
        now = runfile.load(home)
        if now is not None and now.ready and now.supervisor.pid == process.pid:
            if json:
                return print_json({"programs": {name: asdict(one) for name, one in now.programs.items()}})
            out().print(process_table(now.programs))
            return show_summary(out(), now.programs[GATEWAY].address, str(log.parent), now.tls)
        time.sleep(0.1)
    raise Unavailable(f"the suite did not come up; {log} ends:\n{tail(log)}")
