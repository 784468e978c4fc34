"""The stubs as a wheel of their own: they import where only their three dependencies are."""

import subprocess
import sys
import venv
from pathlib import Path

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


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_wheel_imports_with_three_dependencies_only(tmp_path: Path) -> None:
    run(Path(sys.executable).with_name("hatchling"), "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT / "protos")
    (wheel,) = tmp_path.glob("maas_protos-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", wheel)
    run(python, "-I", "-W", "error", "-c", IMPORTS, cwd=tmp_path)
