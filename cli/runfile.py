"""`.maas/run.json`: which processes a running suite consists of. A pid counts only with its start time."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.runtime.store.files import replace

FILE = "run.json"
LEFTOVER_WAIT_S = 10.0


@dataclass(slots=True)
class Process:
    """A process and what is known of it. `started` tells it from a later one with the same pid."""

    pid: int = 0
    started: str = ""
    address: str = ""
    state: str = ""
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.pid) and started_at(self.pid) == self.started


@dataclass(slots=True)
class Run:
    """One `maas up`: its supervisor, whether all programs have served, and the programs."""

    supervisor: Process
    ready: bool = False
    programs: dict[str, Process] = field(default_factory=dict)
    # The settings by which its ports speak TLS; paths alone.
    tls: dict[str, str] = field(default_factory=dict)
    # The file of the token that its metrics ask for; empty: they ask for none.
    metrics_token_file: str = ""

    def save(self, home: Path) -> None:
        """Replace the file; readers see the old or the new."""
        home.mkdir(parents=True, exist_ok=True)
        replace(home / FILE, json.dumps(asdict(self), indent=2).encode())


def load(home: Path) -> Run | None:
    """The recorded run, alive or not."""
    try:
        content = json.loads((home / FILE).read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    programs = {name: Process(**fields) for name, fields in content.pop("programs").items()}
    return Run(Process(**content.pop("supervisor")), programs=programs, **content)


def clear(home: Path) -> None:
    """Forget the run."""
    (home / FILE).unlink(missing_ok=True)


def myself() -> Process:
    """This process."""
    return Process(os.getpid(), started_at(os.getpid()) or "")


def started_at(pid: int) -> str | None:
    """When the process began, as the kernel counts; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def kill_session(leader: int) -> None:
    """SIGKILL to a process, then to what is left of its session: workers lead process groups of their own."""
    for pids in ([leader], session(leader)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def session(leader: int) -> Iterator[int]:
    """The processes of the session that `leader` began. Its number stays taken while one of them lives."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) == leader:
                    yield int(entry.name)


def end_leftovers(run: Run) -> list[str]:
    """Kill what a dead supervisor left running, workers too; the programs' names, once they are gone."""
    left = {name: process for name, process in run.programs.items() if process.alive}
    for process in left.values():
        kill_session(process.pid)
    wait_gone(left.values(), LEFTOVER_WAIT_S)
    return list(left)


def wait_gone(processes: Iterable[Process], seconds: float) -> bool:
    """Wait until none of these runs any more; False if some still does after `seconds`."""
    waiting, end = list(processes), time.monotonic() + seconds
    while any(process.alive for process in waiting):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
