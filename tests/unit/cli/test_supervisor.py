"""The supervisor over tiny programs: up together, down in order, a dead one back, a broken one told."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli import runfile
from cli.child import FIRST_DELAY_S, Child, delay_s
from cli.program import Program
from cli.supervisor import Supervisor
from services.runtime.errors import Unavailable

FAKE = """
import pathlib, signal, sys
home, name, deaf = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "deaf"
def stop(*_):
    with (home / "order").open("a") as file:
        file.write(name + " ")
    if not deaf:
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(home / name).touch()
while True:
    signal.pause()
"""
BROKEN = "import sys; sys.exit('MAAS_PORT is not a number')"


def fake(home: Path, name: str, rank: int = 1, deaf: str = "") -> Program:
    async def serves() -> bool:
        return (home / name).exists()

    command = (sys.executable, "-c", FAKE, str(home), name, deaf)
    return Program(name, command, f"127.0.0.1:{rank}", serves, dict(os.environ), rank)


class Watcher:
    """Hears what the supervisor tells; waits until something holds."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.changed = asyncio.Event()

    def told(self, child: Child, why: str) -> None:
        self.heard.append((child.program.name, child.process.state))
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 20)


@asynccontextmanager
async def running(
    home: Path, *programs: Program, patience_s: float = 20
) -> AsyncIterator[tuple[Supervisor, Watcher]]:
    """A supervisor whose programs all serve; stopped by a signal, as from outside."""
    watcher, ready = Watcher(), asyncio.Event()
    supervisor = Supervisor(programs, home, patience_s, watcher.told)
    task = asyncio.create_task(supervisor.run(ready.set))
    await asyncio.wait_for(ready.wait(), 20)
    try:
        yield supervisor, watcher
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await task


def processes(home: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((home / runfile.FILE).read_text())["programs"]
    return found


async def test_all_serve_then_stop_by_rank(tmp_path: Path) -> None:
    programs = [fake(tmp_path, "valkey", 2), fake(tmp_path, "vision", 1), fake(tmp_path, "gateway", 0)]
    async with running(tmp_path, *programs) as (supervisor, _):
        recorded = processes(tmp_path)
        assert {name: entry["state"] for name, entry in recorded.items()} == {
            "valkey": "serving",
            "vision": "serving",
            "gateway": "serving",
        }
        run = runfile.load(tmp_path)
        assert run is not None and run.ready and run.supervisor.alive and run.programs["vision"].alive
        pids = [child.process.pid for child in supervisor.children]
    assert (tmp_path / "order").read_text().split() == ["gateway", "vision", "valkey"]
    assert all(runfile.started_at(pid) is None for pid in pids) and runfile.load(tmp_path) is None


async def test_a_killed_program_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, fake(tmp_path, "vision"), fake(tmp_path, "gateway", 0)) as (supervisor, watcher):
        vision = supervisor.children[0].process
        first = vision.pid
        os.kill(first, signal.SIGKILL)
        await watcher.until(lambda: vision.restarts == 1 and vision.state == "serving")
        assert vision.pid not in (0, first) and processes(tmp_path)["vision"]["restarts"] == 1
        assert supervisor.children[1].process.restarts == 0


async def test_a_program_that_cannot_start_is_told_and_the_rest_stopped(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    broken = Program("broken", (sys.executable, "-c", BROKEN), "", never, dict(os.environ))
    watcher = Watcher()
    supervisor = Supervisor([fake(tmp_path, "vision"), broken], tmp_path, 20, watcher.told)
    with pytest.raises(Unavailable, match=r"broken does not start[\s\S]*MAAS_PORT is not a number"):
        await supervisor.run(lambda: pytest.fail("said ready"))
    assert ("vision", "stopped") in watcher.heard and ("broken", "failed") in watcher.heard
    assert runfile.load(tmp_path) is None


async def test_a_program_that_cannot_be_executed_is_told(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    missing = Program("valkey", ("/no/such/valkey-server",), "", never)
    watcher = Watcher()
    supervisor = Supervisor([missing], tmp_path, 20, watcher.told)
    with pytest.raises(Unavailable, match=r"valkey does not start: cannot be started: .*No such file"):
        await asyncio.wait_for(supervisor.run(lambda: pytest.fail("said ready")), 20)
    assert watcher.heard.count(("valkey", "restarting")) == 2 and ("valkey", "failed") in watcher.heard


async def test_an_error_of_the_supervision_is_no_silence(tmp_path: Path) -> None:
    def told(child: Child, why: str) -> None:
        if child.process.pid and child.process.state == "starting":
            raise ValueError("cannot draw")

    child = Child(fake(tmp_path, "vision"), tmp_path / "log", told)
    child.start()
    await asyncio.wait_for(child.failed.wait(), 20)
    assert child.process.state == "failed" and "cannot draw" in child.why
    assert runfile.wait_gone([child.process], 20)


def test_a_program_that_dies_for_ever_is_tried_for_ever() -> None:
    assert delay_s(1) == FIRST_DELAY_S and delay_s(2) == 2 * FIRST_DELAY_S and delay_s(5000) == delay_s(6)


async def test_a_deaf_program_is_killed_when_patience_ends(tmp_path: Path) -> None:
    async with running(tmp_path, fake(tmp_path, "vision", deaf="deaf"), patience_s=0.2) as (supervisor, _):
        pid = supervisor.children[0].process.pid
    assert runfile.started_at(pid) is None


async def test_a_second_signal_kills_what_is_left(tmp_path: Path) -> None:
    async with running(tmp_path, fake(tmp_path, "vision", deaf="deaf"), patience_s=600) as (supervisor, watcher):
        pid = supervisor.children[0].process.pid
        os.kill(os.getpid(), signal.SIGTERM)
        await watcher.until(lambda: ("vision", "stopping") in watcher.heard)
        os.kill(os.getpid(), signal.SIGTERM)
        await watcher.until(lambda: ("vision", "stopped") in watcher.heard)
    assert runfile.started_at(pid) is None


async def test_a_stop_during_the_start_stops(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    slow = Program("slow", (sys.executable, "-c", "import time; time.sleep(600)"), "", never, dict(os.environ))
    watcher = Watcher()
    supervisor = Supervisor([slow], tmp_path, 20, watcher.told)
    task = asyncio.create_task(supervisor.run(lambda: pytest.fail("said ready")))
    await watcher.until(lambda: supervisor.children[0].process.pid != 0)
    os.kill(os.getpid(), signal.SIGINT)
    await task
    assert watcher.heard[-1] == ("slow", "stopped")
