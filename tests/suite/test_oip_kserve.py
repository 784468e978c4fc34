"""The Open Inference Protocol by KServe's client library, in an environment of its own (half a GB of packages)."""

import os
import subprocess
from pathlib import Path

import pytest

from services.runtime.store.sources.fetcher import Fetcher
from tests.clients import KSERVE, python_with
from tests.suite.conftest import Suite

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).with_name("kserve_script.py")


@pytest.mark.parametrize("door", ["gateway", "vision", "sequence"])
def test_kserves_client_infers_raw_and_typed(suite: Suite, fetcher: Fetcher, door: str) -> None:
    command = [python_with(KSERVE, fetcher.cache), SCRIPT, suite.address(door), door]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=clean)
    assert done.returncode == 0 and "all well" in done.stdout, done.stdout + done.stderr
