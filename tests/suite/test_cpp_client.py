"""A C++ client built by the system's own protoc and gRPC, from nothing but the descriptor set."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.needs import needs
from tests.suite.conftest import Suite
from tests.suite.envoy import ROOT, Edge

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLE = ROOT / "tests" / "interop" / "cpp"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built program."""
    needs("make", "g++", "pkg-config", "protoc", "grpc_cpp_plugin")
    folder = tmp_path_factory.mktemp("cpp")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    command = ["make", "-s", f"CONTRACTS={ROOT / 'protos' / 'maas.binpb'}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "client"


def test_unary_stream_and_error_details(suite: Suite, front: Edge, client: Path) -> None:
    for address in (suite.address(), front.address):
        told = subprocess.run([client, address], capture_output=True, text=True, timeout=60, check=False).stdout
        assert told.splitlines() == ["ids 0 19556 905 17", "text Hello world! 0", "error 3 texts"]
