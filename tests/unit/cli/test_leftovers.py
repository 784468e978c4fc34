"""Nothing a suite began outlives it: not its workers, not what a killed supervisor left."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from cli import runfile
from cli.child import Child
from cli.down import stop_supervisor
from cli.program import Probe, Program
from cli.runfile import Process, Run

SPAWNS = """
import os, pathlib, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
path = pathlib.Path(sys.argv[1])
path.with_suffix(".part").write_text(str(worker.pid))
path.with_suffix(".part").replace(path)
worker.wait()
"""


def spawns(home: Path) -> tuple[str, ...]:
    return (sys.executable, "-c", SPAWNS, str(home / "worker"))


def appears(home: Path) -> Probe:
    async def serves() -> bool:
        return (home / "worker").exists()

    return serves


def worker_of(home: Path) -> Process:
    pid = int((home / "worker").read_text())
    return Process(pid, runfile.started_at(pid) or "")


async def test_what_a_dead_supervisor_left_is_ended(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    started = runfile.started_at(child.pid) or ""
    other = Process(os.getpid(), "another time")
    run = Run(Process(1, "long ago"), programs={"vision": Process(child.pid, started), "gateway": other})
    run.save(tmp_path)
    loaded = runfile.load(tmp_path)
    assert loaded == run and not loaded.supervisor.alive and not loaded.programs["gateway"].alive
    assert runfile.end_leftovers(loaded) == ["vision"]
    assert await child.wait() == -signal.SIGKILL


async def test_workers_in_groups_of_their_own_end_with_a_killed_program(tmp_path: Path) -> None:
    program = Program("vision", spawns(tmp_path), "", appears(tmp_path))
    child = Child(program, tmp_path / "log", lambda child, why: None)
    child.start()
    await asyncio.wait_for(child.served.wait(), 20)
    worker = worker_of(tmp_path)
    assert worker.alive and os.getpgid(worker.pid) == worker.pid
    await child.stop(patience_s=0.2)
    assert runfile.wait_gone([worker], 20)


async def test_workers_of_what_a_dead_supervisor_left_are_ended_too(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(*spawns(tmp_path), start_new_session=True)
    serves = appears(tmp_path)
    while not await serves():
        await asyncio.sleep(0.01)
    worker = worker_of(tmp_path)
    left = Process(child.pid, runfile.started_at(child.pid) or "")
    assert worker.alive
    runfile.end_leftovers(Run(Process(1, "long ago"), programs={"vision": left}))
    await child.wait()
    assert runfile.wait_gone([worker], 20)


def test_a_supervisor_that_is_gone_already_is_stopped() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stop_supervisor(Process(gone.pid, "then"), 1, force=True)
