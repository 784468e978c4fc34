"""Real server processes for a measurement: started as `maas up` starts them, stopped at the end. Calls none."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from cli import program
from cli.ports import any_free
from cli.program import Program
from cli.supervisor import tail
from tests.bench import family

HOST = "127.0.0.1"
CORES = tuple(sorted(os.sched_getaffinity(0)))
START_S, STOP_S = 120.0, 30.0
# Nobody asks the metrics port here, and nobody else is routed to these servers.
OVERRIDES = {"MAAS_METRICS_PORT": "0", "MAAS_LAME_DUCK_S": "0"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running program."""

    program: Program
    process: asyncio.subprocess.Process
    log: Path

    @property
    def address(self) -> str:
        return self.program.address

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all its threads and of all it started, so far."""
        return family.cpu_s([self.process.pid])

    async def ready(self) -> None:
        """Waits until it serves. RuntimeError with the end of its log if it dies or never does."""
        for _ in range(int(START_S / 0.1)):
            if self.process.returncode is not None:
                break
            if await self.program.probe():
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{self.program.name} does not serve; {self.log} ends:\n{tail(self.log)}")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help; what it started and left behind goes too."""
        started = family.pids(self.process.pid)[1:]
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        family.end(started)


def suite(store: Path, redis_url: str = "", extra: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The programs of one suite on free ports, by name; `extra` is added to their environment."""
    ports = {name: any_free(HOST) for name in program.PORTS}
    environ = {**os.environ, **OVERRIDES, **(extra or {})}
    return {one.name: one for one in program.services(HOST, ports, store, redis_url, environ)}


def pinned(core: int, *command: str) -> tuple[str, ...]:
    """The command on one processor alone, as on a machine of its own."""
    return ("taskset", "-c", str(CORES[core % len(CORES)]), *command)


def on(core: int, one: Program) -> Program:
    return replace(one, command=pinned(core, *one.command))


@contextlib.contextmanager
def staying_on(core: int) -> Iterator[None]:
    """We ourselves, and what we start meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[core % len(CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def running(programs: Iterable[Program], logs: Path) -> AsyncIterator[dict[str, Server]]:
    """Servers by name, all serving. What others lean on (higher `stop_rank`) starts first and stops last."""
    tiers = [list(tier) for _, tier in groupby(sorted(programs, key=_rank, reverse=True), key=_rank)]
    servers: dict[str, Server] = {}
    try:
        for tier in tiers:
            servers |= {one.name: await _start(one, logs) for one in tier}
            await asyncio.gather(*(servers[one.name].ready() for one in tier))
        yield servers
    finally:
        for tier in reversed(tiers):
            await asyncio.gather(*(servers[one.name].stop() for one in tier if one.name in servers))


def _rank(one: Program) -> int:
    return one.stop_rank


async def _start(one: Program, logs: Path) -> Server:
    path = logs / f"{one.name}.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *one.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **one.environment},
            start_new_session=True,
        )
    return Server(one, process, path)
