"""Who listens on a port of this machine, by /proc. Opens no port."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTENING = "0A"


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """`pid 12 (name)` of the process that listens there; `another user's process` where that is hidden."""
    sockets = {f"socket:[{inode}]" for inode in inodes(port, proc)}
    for folder in proc.iterdir():
        if folder.name.isdecimal() and not sockets.isdisjoint(links(folder / "fd")):
            name = (folder / "comm").read_text().strip()
            return f"pid {folder.name} ({name})"
    return "another user's process"


def inodes(port: int, proc: Path = Path("/proc")) -> Iterator[str]:
    """Of the sockets that listen on `port`, as the kernel's tables have them."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def links(folder: Path) -> Iterator[str]:
    """Where the open files of a process lead, as far as one may see."""
    with suppress(OSError):
        for entry in folder.iterdir():
            with suppress(OSError):
                yield str(entry.readlink())
