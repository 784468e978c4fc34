"""`maas console` as a process."""

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.suite.conftest import free_ports
from tests.suite.envoy import ROOT


@dataclass
class Console:
    """`maas console` as a process, and where its page is."""

    process: "subprocess.Popen[str]"
    port: int
    said: str = ""  # after its address, once it has ended

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def status_of(self, path: str, headers: dict[str, str], method: str = "POST") -> int:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        link.request(method, path, b'{"texts": ["a"]}' if method == "POST" else None, headers)
        found = link.getresponse().status
        link.close()
        return found


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[Console]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "cli", "console", "--home", str(home), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"http://localhost:{port}" in line, line + process.stdout.read()
        console = Console(process, port)
        try:
            yield console
        finally:
            process.send_signal(signal.SIGINT)
        console.said = process.stdout.read()
        assert "Traceback" not in console.said
        assert process.wait(20) == 0
