"""Gateways besides the suite's own, in front of the same services: what a balancer balances over."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.suite.conftest import PROGRAMS, Suite, free_ports, health

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Replica:
    """A gateway of its own process, without Redis, that can die and come back on its port."""

    suite: Suite
    port: int
    log: Path
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        services = [f"--{name}-address={self.suite.address(name)}" for name in PROGRAMS if name != "gateway"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "gateway", f"--port={self.port}", *services]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def revive(self) -> None:
        """SERVING, on the same port; a process that is leaving has left before."""
        if self.process is None or (self.process.poll() is None and health(self.address) != "SERVING"):
            self.kill()
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.await_open()

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """SIGTERM: the written order."""
        if self.process is not None:
            self.process.terminate()

    def served(self, method: str) -> int:
        """Calls of `package.Service/Method` that its process has begun."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 4000}/metrics", timeout=10) as reply:
            told = reply.read().decode()
        found = re.search(rf'^grpc_server_call_started_total{{grpc_method="{method}"}} (\S+)$', told, re.M)
        return int(float(found[1])) if found else 0

    def await_open(self) -> None:
        end = time.monotonic() + 30
        while health(self.address) != "SERVING":
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.05)


@contextmanager
def replicas(suite: Suite, folder: Path, count: int) -> Iterator[list[Replica]]:
    """So many gateways, all of them SERVING."""
    found = [Replica(suite, port, folder / f"gateway-{port}.log") for port in free_ports(count)]
    try:
        for replica in found:
            replica.start()
        for replica in found:
            replica.await_open()
        yield found
    finally:
        for replica in found:
            replica.kill()
