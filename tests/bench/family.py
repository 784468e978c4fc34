"""A process and all that it started: CPU, memory, and holding them still, by proc(5) and signals. Calls none."""

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PARENT, USER, SYSTEM = 1, 11, 12  # fields of proc(5)'s stat, counted from the one after the name


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all processes together: resident now, and each one's own peak; pages they share count for each."""

    processes: int
    resident_mib: float
    peak_mib: float


def pids(root: int) -> list[int]:
    """`root` and its descendants, parents first."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        if values := _stat(int(path.name)):
            children[int(values[PARENT])].append(int(path.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds, user and system, of all threads of all that live, so far."""
    stats = [_stat(pid) for root in roots for pid in pids(root)]
    return sum(int(one[USER]) + int(one[SYSTEM]) for one in stats if one) / TICKS_A_SECOND


def memory(root: int) -> Memory:
    statuses = [_status(pid) for pid in pids(root)]
    resident, peak = (sum(one.get(key, 0) for one in statuses) / 1024 for key in ("VmRSS", "VmHWM"))
    return Memory(sum(map(bool, statuses)), resident, peak)


def hold(root: int) -> None:
    """Nothing of it runs until `let_go`: an idle server costs nothing then, whatever it does in its spare time."""
    for pid in pids(root):
        _send(pid, signal.SIGSTOP)


def let_go(root: int) -> None:
    for pid in reversed(pids(root)):
        _send(pid, signal.SIGCONT)


def end(started: Iterable[int]) -> None:
    """For processes whose parent is gone."""
    for pid in started:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """Fields after the name, which may hold blanks; none of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _status(pid: int) -> dict[str, int]:
    """The fields in kB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
