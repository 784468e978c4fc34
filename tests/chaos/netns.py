"""Hosts on one machine: network namespaces joined by a bridge in that of this process. Knows no server.

`outside` starts a program in a namespace of its own, which needs root or user namespaces; what it makes there goes
when it ends.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

NETWORK, LENGTH = "10.77.0", 24
OUTSIDE = ("unshare", "--user", "--map-root-user", "--net")
BRIDGE = "maas"


@dataclass(frozen=True, slots=True)
class Host:
    """`name` is also that of its cable's end at the bridge; `pid` holds its namespace open."""

    name: str
    address: str
    pid: int

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs there; its process is the program's own."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command]

    def cut(self) -> None:
        """Nothing leaves or reaches it, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def heal(self) -> None:
        _ip("link", "set", self.name, "up")


def missing() -> str:
    """Why there can be no hosts here; empty where there can."""
    lacking = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    tried = subprocess.run(
        [*OUTSIDE, "ip", "link", "add", BRIDGE, "type", "bridge"], capture_output=True, text=True, check=False
    )
    return f"no network namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """`host1`, `host2`, … with an address each; this process, on the bridge, is the outside."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{NETWORK}.254/{LENGTH}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    holders = [
        subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        yield [_host(number, holder) for number, holder in enumerate(holders, 1)]
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def _host(number: int, holder: "subprocess.Popen[bytes]") -> Host:
    assert holder.stdout is not None
    holder.stdout.readline()  # it has its namespace by then
    host = Host(f"host{number}", f"{NETWORK}.{number}", holder.pid)
    _ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    _ip("link", "set", host.name, "master", BRIDGE, "up")
    for words in (
        ("address", "add", f"{host.address}/{LENGTH}", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
    ):
        _run(host.inside(["ip", *words]))
    return host


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: Sequence[str]) -> None:
    """RuntimeError with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
