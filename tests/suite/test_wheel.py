"""What other repositories install: the stubs as a wheel, and the client; each where nothing else is."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest
import skimage

from tests.suite.conftest import Suite

ROOT = Path(__file__).parent.parent.parent

IMPORTS = """
import importlib, importlib.metadata as metadata, pkgutil, maas
names = [m.name for m in pkgutil.walk_packages(maas.__path__, "maas.") if not m.ispkg]
for name in names:
    importlib.import_module(name)
assert len(names) > 30, names
assert metadata.metadata("maas-protos")["Name"] == "maas-protos"
installed = {d.metadata["Name"].lower() for d in metadata.distributions()}
assert installed <= {"maas-protos", "grpcio", "protobuf", "googleapis-common-protos", "typing_extensions",
                     "typing-extensions", "pip", "setuptools"}, installed
"""

CLIENT_IMPORTS = """
import importlib.metadata as metadata, maas_client, maas
installed = {d.metadata["Name"].lower().replace("_", "-") for d in metadata.distributions()}
assert installed <= {"maas-client", "grpcio", "protobuf", "googleapis-common-protos", "numpy", "typing-extensions",
                     "pip", "setuptools"}, installed
"""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_stub_wheel_imports_with_three_dependencies_only(tmp_path: Path) -> None:
    run(Path(sys.executable).with_name("hatchling"), "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT / "protos")
    (wheel,) = tmp_path.glob("maas_protos-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", wheel)
    run(python, "-I", "-W", "error", "-c", IMPORTS, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(300)
def test_the_client_installs_into_an_empty_environment_and_calls(suite: Suite, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", ROOT / "client")
    run(python, "-I", "-W", "error", "-c", CLIENT_IMPORTS, cwd=tmp_path)
    picture = Path(skimage.__file__).parent / "data" / "chelsea.png"
    told = run(python, "-I", ROOT / "client/examples/python_client.py", suite.address(), picture, cwd=tmp_path)
    assert "The capital of France is Paris." in told and "ids [19556, 905, 17]" in told
    assert "refused sampling.temperature is -1; must be at least 0" in told and "speech False" in told
    told = run(python, "-I", ROOT / "client/examples/python_stubs.py", suite.address(), cwd=tmp_path)
    assert told.count("session output") == 2 and "refused INVALID_ARGUMENT sampling.temperature" in told
