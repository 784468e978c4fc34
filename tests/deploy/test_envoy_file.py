"""The committed configuration of Envoy as it stands, judged by Envoy itself."""

import subprocess

import pytest

from tests.suite.envoy import CONFIGURATION, ENVOY, ROOT


def test_envoy_takes_it_and_warns_of_nothing() -> None:
    if not ENVOY.is_file():
        pytest.skip("not installed: envoy")
    command = [ENVOY, "--mode", "validate", "-c", CONFIGURATION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "][warning]" in line or "][error]" in line]
