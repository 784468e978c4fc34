"""One process of the suite behind a link of its own: started, struck, watched."""

import asyncio
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.probe import grpc_serving
from services.runtime.tls.settings import TlsSettings
from tests.chaos.link import Link

ROOT = Path(__file__).parent.parent.parent
START_S = 90
# Of the calls that a server counts: those that last as long as it does, and those that ask for these counts.
ASIDE = "Watch|/grpc\\.|maas\\.internal|GetStatus"


@dataclass(eq=False)
class Server:
    """`name` is its service's and its number, such as `vision-1`; callers know it by its link."""

    name: str
    port: int
    command: Sequence[str]
    link: Link
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    tls: TlsSettings | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env={**kept, **self.environment}, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def gone(self) -> int:
        """Waits for its end; what it ended with."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, START_S)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def serving(self) -> None:
        """Returns once it says so itself, not through its link."""
        end = time.monotonic() + START_S
        while not await grpc_serving(f"{self.host}:{self.port}", self.tls):
            assert time.monotonic() < end, f"{self.name} does not come up: {self.log.read_text()[-2000:]}"
            await asyncio.sleep(0.1)

    async def metrics(self) -> str:
        return await asyncio.to_thread(self._metrics)

    async def begun(self) -> int:
        """Calls that were begun, without those that watch."""
        return _sum(r"grpc_server_call_started_total", await self.metrics())

    async def unended(self) -> int:
        """Calls that were begun and have not ended, without those that watch."""
        told = await self.metrics()
        return _sum("grpc_server_call_started_total", told) - _sum("grpc_server_call_duration_seconds_count", told)

    def _metrics(self) -> str:
        scheme, trusted = ("https", self.tls.tls_authority) if self.tls else ("http", None)
        context = ssl.create_default_context(cafile=trusted) if trusted else None
        where = f"{scheme}://{self.host}:{self.port + 4000}/metrics"
        with urllib.request.urlopen(where, timeout=10, context=context) as reply:
            return str(reply.read().decode())


def _sum(name: str, told: str) -> int:
    series = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", told, re.M)
    return sum(int(float(value)) for labels, value in series if not re.search(ASIDE, labels))
