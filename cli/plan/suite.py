"""A suite of its own to measure: a thread each, the services apart from gateway and caller. Asks nothing."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.child import Child
from cli.embedded import NAME as VALKEY
from cli.embedded import valkey
from cli.ports import any_free
from cli.program import GATEWAY, PORTS, services
from cli.supervisor import tail
from services.runtime.errors import Unavailable

HOST, START_S, PATIENCE_S = "127.0.0.1", 120.0, 10.0
THREADS = {"MAAS_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Whoever measures waits: a service that has just started looks overloaded.
ALONE = {**THREADS, "MAAS_METRICS_PORT": "0", "MAAS_LAME_DUCK_S": "0", "MAAS_SHED": "false"}


@dataclass(frozen=True, slots=True)
class Suite:
    """Where its gateway listens, and the process of each program."""

    address: str
    pids: Mapping[str, int]

    def cpu_s(self, name: str) -> float:
        """User and system seconds of a program, so far: its clock, named as clock_getcpuclockid(3) does."""
        return time.clock_gettime((~self.pids[name] << 3) | 2)

    def memory_mib(self, name: str) -> float:
        """Resident now."""
        lines = Path(f"/proc/{self.pids[name]}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@asynccontextmanager
async def running(store: Path, home: Path, wanted: Iterable[str]) -> AsyncIterator[Suite]:
    """The gateway, Redis and the `wanted` services, all serving; Unavailable if one does not."""
    redis, url = valkey(home)
    ports = {name: any_free(HOST) for name in PORTS}
    needed = {GATEWAY, *wanted}
    programs = [redis, *(one for one in services(HOST, ports, store, url, _environ()) if one.name in needed)]
    children = {one.name: Child(one, home / f"{one.name}.log", lambda *_: None) for one in programs}
    try:
        for child in children.values():
            child.start()
        await asyncio.gather(*(_served(child) for child in children.values()))
        suite = Suite(f"{HOST}:{ports[GATEWAY]}", {name: child.process.pid for name, child in children.items()})
        _apart(suite)
        yield suite
    finally:
        for rank in sorted({child.program.stop_rank for child in children.values()}):
            those = [child for child in children.values() if child.program.stop_rank == rank]
            await asyncio.gather(*(child.stop(PATIENCE_S) for child in those))


def _environ() -> dict[str, str]:
    """This process' without what would change the suite."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MAAS_")}
    return {**plain, **ALONE, "MAAS_MESH_KEY": secrets.token_hex(32)}


async def _served(child: Child) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in (child.served, child.failed)]
    await asyncio.wait(waiting, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    if not child.served.is_set():
        raise Unavailable(f"{child.program.name} does not start; {child.log} ends:\n{tail(child.log)}")


def _apart(suite: Suite) -> None:
    """The last core is the services', where there are two or more; the first is all others', the caller too."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    front = {GATEWAY, VALKEY}
    for name, pid in suite.pids.items():
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores[:1] if name in front else cores[-1:])
    os.sched_setaffinity(0, cores[:1])
