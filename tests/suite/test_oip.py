"""The Open Inference Protocol by a client nobody here wrote: tritonclient, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import skimage

from tests.suite.conftest import Suite

pytestmark = pytest.mark.models
HERE = Path(__file__).parent


@pytest.mark.parametrize("door", ["gateway", "vision"])
def test_tritonclient_reads_metadata_and_infers(suite: Suite, door: str) -> None:
    picture = Path(skimage.__file__).parent / "data" / "chelsea.png"
    done = subprocess.run(
        [sys.executable, str(HERE / "triton_script.py"), suite.address(door), str(picture)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "class 282" in done.stdout


def test_messages_are_wire_identical() -> None:
    """Every message and field of ours exists in the published contract, same name, number and type."""
    ours = subprocess.run(
        [sys.executable, str(HERE / "wire_script.py"), "ours"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    theirs = subprocess.run(
        [sys.executable, str(HERE / "wire_script.py"), "theirs"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # `properties` is the protocol's own field; Triton's copy of the contract lacks it.
    extra = {line for line in set(ours) - set(theirs) if "ModelMetadataResponse" not in line}
    assert not extra
    assert len(ours) > 150
