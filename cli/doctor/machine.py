"""What the machine gives: open files, memory, disk, cores. Limits are read, never changed."""

import os
import resource
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, bad, ok, warn
from cli.render import size

# A caller is a file, a stream is none; each process has some dozens of its own.
FILES_LEAST, FILES_GOOD = 256, 4096
# The suite with its default models peaks near 3 GB, generation's KV cache (1 GiB) included.
MEMORY_LEAST, MEMORY_GOOD = 1 << 30, 3 << 30
DISK_LEAST, DISK_GOOD = 200 << 20, 2 << 30


def files(around: Around, limit: int | None = None) -> Findings:
    """RLIMIT_NOFILE, which programs inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    have = soft if limit is None else limit
    if have == resource.RLIM_INFINITY or have >= FILES_GOOD:
        return [ok("open files", "unlimited" if have == resource.RLIM_INFINITY else str(have))]
    fix = f"`ulimit -n {FILES_GOOD}` before `maas up` (the most allowed here is {hard})"
    return [(bad if have < FILES_LEAST else warn)("open files", f"{have}, a connection takes one", fix)]


def memory(around: Around, available: int | None = None) -> Findings:
    """What a suite that is to start could take, the bound of a container minded."""
    have = _available(Path("/proc/meminfo"), Path("/sys/fs/cgroup")) if available is None else available
    told = f"{size(have)} available"
    if around.up or have >= MEMORY_GOOD:
        return [ok("memory", told)]
    fix = "end other programs, or give the suite less: MAAS_KV_CACHE_MIB (1024), MAAS_CACHE_MEMORY_MIB (64)"
    return [(bad if have < MEMORY_LEAST else warn)("memory", f"{told}; the suite takes 3 GB", fix)]


def disk(around: Around, free: int | None = None) -> Findings:
    """Room where models, logs and runs are kept."""
    for name, path in {"store": around.root, "state": around.home}.items():
        have = shutil.disk_usage(_existing(path)).free if free is None else free
        told = f"{size(have)} free at {path}"
        if have >= DISK_GOOD:
            yield ok(f"disk of {name}", told)
        else:
            fix = "`maas models remove` old versions, or point MAAS_STORE and MAAS_HOME elsewhere"
            yield (bad if have < DISK_LEAST else warn)(f"disk of {name}", told, fix)


def threads(around: Around, cores: int | None = None) -> Findings:
    """Compute threads that are asked for beside the cores there are."""
    have = cores or len(os.sched_getaffinity(0))
    asked = {
        name: count for name in ("MAAS_THREADS", "OMP_NUM_THREADS") if (count := _count(around.environ, name))
    }
    over = {name: count for name, count in asked.items() if count > have}
    if over:
        told = ", ".join(f"{name}={count}" for name, count in over.items())
        yield _over(told, have)
    else:
        chosen = ", ".join(f"{name}={count}" for name, count in asked.items())
        yield ok("threads", f"{have} cores; {chosen or 'each service takes its share'}")


def _over(told: str, cores: int) -> Finding:
    return warn(
        "threads", f"{told} on {cores} cores: they would wait for each other", f"unset it, or at most {cores}"
    )


def _count(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "")
    return int(value) if value.isdecimal() else 0


def _available(meminfo: Path, group: Path) -> int:
    """Bytes, by the kernel's estimate and by the container's own bound, whichever is less."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    found = int(lines["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError):
        bound = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        found = min(found, max(bound, 0))
    return found


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    whole = path.absolute()
    return next(folder for folder in (whole, *whole.parents) if folder.exists())
