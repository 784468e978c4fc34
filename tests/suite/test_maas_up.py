"""`maas up --detach`, `status`, `down` on the real suite: up, a killed service back, everything gone after."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import runfile
from cli.ports import any_free, is_free
from cli.program import METRICS_OFFSET, PORTS

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]
HOST = "127.0.0.1"


def free_ports() -> dict[str, int]:
    """A free port for each program, whose metrics port is free as well."""
    chosen: dict[str, int] = {}
    while len(chosen) < len(PORTS):
        port = any_free(HOST)
        if port + METRICS_OFFSET < 65536 and is_free(HOST, port + METRICS_OFFSET) and port not in chosen.values():
            chosen[list(PORTS)[len(chosen)]] = port
    return chosen


class Suite:
    """The `maas` command with a home, a store and ports of its own."""

    def __init__(self, home: Path, store: Path) -> None:
        self.home, self.ports = home, free_ports()
        self.environment = {**os.environ, "MAAS_HOME": str(home), "MAAS_STORE": str(store)}
        self.environment |= {f"MAAS_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        self.environment |= {"MAAS_LAME_DUCK_S": "0.1"}
        self.environment.pop("MAAS_REDIS_URL", None)

    def maas(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )

    def serving(self) -> dict[str, bool]:
        told = json.loads(self.maas("status", "--json").stdout)
        return {name: program["serving"] for name, program in told.items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, store_root: Path) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("home"), store_root)
    up = suite.maas("up", "--detach")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "grpcurl -plaintext" in up.stdout
    yield suite
    suite.maas("down", "--force")


def test_everything_serves_and_a_call_goes_through(suite: Suite) -> None:
    assert all(suite.serving().values())
    address = f"{HOST}:{suite.ports['gateway']}"
    answer = suite.maas("call", "transduce", "computer", "--address", address)
    assert answer.stdout == "K AH0 M P Y UW1 T ER0\n" and "cache miss" in answer.stderr
    assert "cache hit" in suite.maas("call", "transduce", "computer", "--address", address).stderr


def test_the_status_tells_what_is_behind_the_gateway(suite: Suite) -> None:
    rows = json.loads(suite.maas("status", "--json").stdout)["gateway"]["replicas"]
    served = [row["service"] for row in rows if row["health"] == "SERVING"]
    assert sorted(served) == sorted(suite.ports.keys() - {"gateway"})
    shown = suite.maas("status").stdout
    assert "behind the gateway" in shown and all(row["address"] in shown for row in rows)


def test_a_second_up_is_refused(suite: Suite) -> None:
    again = suite.maas("up", "--detach")
    assert again.returncode == 1 and "up already" in again.stderr


def test_a_killed_service_comes_back(suite: Suite) -> None:
    run = runfile.load(suite.home)
    assert run is not None
    os.kill(run.programs["sequence"].pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while (
        not (now := runfile.load(suite.home))
        or now.programs["sequence"].restarts == 0
        or not all(suite.serving().values())
    ):
        assert time.monotonic() < end, suite.serving()
    address = f"{HOST}:{suite.ports['gateway']}"
    answer = suite.maas("call", "transduce", "phoneme", "--address", address)
    assert answer.stdout == "F OW1 N IY0 M\n"


def test_down_leaves_nothing(suite: Suite) -> None:
    run = runfile.load(suite.home)
    assert run is not None
    assert suite.maas("down").returncode == 0
    assert not run.supervisor.alive and not any(process.alive for process in run.programs.values())
    assert all(is_free(HOST, port) for port in suite.ports.values())
    status = suite.maas("status")
    assert status.returncode == 1 and "down" in status.stdout
