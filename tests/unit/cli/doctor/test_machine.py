"""The doctor finds what is wrong with a machine: each thing is really broken, or given broken."""

import socket
import sys
from pathlib import Path

import pytest

from cli import runfile
from cli.doctor import listeners, machine, ports, python, tools
from cli.doctor.around import Around
from cli.doctor.finding import Finding, Findings, guarded
from cli.ports import any_free


@pytest.fixture
def around(tmp_path: Path) -> Around:
    return Around({}, tmp_path / "home", tmp_path / "store", ports={"vision": any_free("127.0.0.1")})


def only(findings: Findings) -> Finding:
    (found,) = findings
    return found


def test_an_old_python_and_the_machines_own(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    old, own = python.interpreter(around, (3, 10, 4))
    assert (old.state, own.state) == ("bad", "warn") and "3.10.4" in old.found and "make up" in own.fix
    monkeypatch.setattr(sys, "prefix", "/elsewhere")
    assert [one.state for one in python.interpreter(around)] == ["ok", "ok"]


def test_packages_that_are_not_as_pinned(around: Around, tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["typer==0.0.1", "redis[hiredis]==8.1.0", "not-there==1.0"]')
    found = only(python.packages(around, project))
    assert found.state == "bad" and "typer is" in found.found and "not-there 1.0 is missing" in found.found
    assert "redis" not in found.found and "pip install" in found.fix
    assert only(python.packages(around)).state == "ok"


def test_installed_without_a_source_tree_the_pins_are_those_of_the_package(tmp_path: Path) -> None:
    here = python.pins(python.PROJECT)
    assert python.pins(tmp_path / "none")["grpcio"] == here["grpcio"]
    assert {"torch", "typer", "pillow"} <= here.keys() and "pytest" not in here


def test_a_taken_port_is_told_with_its_holder(around: Around) -> None:
    assert only(ports.ports(around)).state == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", around.ports["vision"]))
        taken.listen()
        found = only(ports.ports(around))
    assert found.state == "bad" and "--vision-port" in found.fix
    assert f"pid {runfile.myself().pid} (" in found.found


def test_a_port_of_someone_whose_files_are_hidden(tmp_path: Path) -> None:
    assert listeners.holder(1, tmp_path) == "another user's process"


def test_a_running_suite_holds_its_own_ports(around: Around) -> None:
    up = Around({}, around.home, around.root, run=runfile.Run(runfile.myself()))
    assert only(ports.ports(up)).state == "ok"


@pytest.mark.parametrize(("limit", "state"), [(64, "bad"), (1024, "warn"), (8192, "ok"), (-1, "ok")])
def test_open_files(around: Around, limit: int, state: str) -> None:
    found = only(machine.files(around, limit))
    assert found.state == state and (state == "ok") == (not found.fix)


@pytest.mark.parametrize(("gib", "state"), [(0.5, "bad"), (2, "warn"), (8, "ok")])
def test_memory(around: Around, gib: float, state: str) -> None:
    assert only(machine.memory(around, int(gib * (1 << 30)))).state == state


def test_a_containers_bound_counts_as_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000000 kB\nMemAvailable:  4000000 kB\n")
    assert machine._available(meminfo, tmp_path) == 4000000 * 1024
    (tmp_path / "memory.max").write_text("5000")
    (tmp_path / "memory.current").write_text("3000")
    assert machine._available(meminfo, tmp_path) == 2000


@pytest.mark.parametrize(("mib", "state"), [(100, "bad"), (1000, "warn"), (5000, "ok")])
def test_disk(around: Around, mib: int, state: str) -> None:
    assert {one.state for one in machine.disk(around, mib << 20)} == {state}


def test_more_threads_than_cores(around: Around) -> None:
    many = Around({"MAAS_THREADS": "8"}, around.home, around.root)
    found = only(machine.threads(many, 2))
    assert found.state == "warn" and "MAAS_THREADS=8 on 2 cores" in found.found
    assert only(machine.threads(many, 8)).state == "ok"


def test_tools_that_are_missing(around: Around) -> None:
    found = {one.name: one for one in tools.tools(around, {"npm": "/usr/bin/npm"}.get)}
    assert [found[name].state for name in ("envoy", "browser", "tools")] == ["warn", "warn", "ok"]


def test_a_check_that_breaks_is_a_finding() -> None:
    def check() -> Findings:
        raise PermissionError("no")

    found = only(guarded("x", check))
    assert found.state == "warn" and "PermissionError: no" in found.found
