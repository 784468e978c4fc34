"""The Open Inference Protocol by a client nobody here wrote: tritonclient, in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import skimage

from tests.suite.conftest import Suite

pytestmark = pytest.mark.models
HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("door", ["gateway", "vision"])
def test_tritonclient_with_pictures(suite: Suite, door: str) -> None:
    picture = Path(skimage.__file__).parent / "data" / "chelsea.png"
    said = run("triton_script.py", suite.address(door), str(picture))
    assert "class 282" in said and re.search("label .*cat", said) and "all well" in said
    models = {
        "efficientnet-lite0",
        "mnist-cnn",
        *(["g2p-en", "minilm-l6-v2", "silero-vad"] if door == "gateway" else []),
    }
    assert models <= set(re.findall(r"^models (.*)$", said, re.M)[0].split())


@pytest.mark.parametrize("door", ["gateway", "sequence"])
def test_tritonclient_with_texts_and_sequences(suite: Suite, door: str) -> None:
    assert "all well" in run("triton_sequences.py", suite.address(door))


def test_messages_are_wire_identical() -> None:
    """Every message and field of ours exists in the published contract, same name, number and type."""
    ours, theirs = (run("wire_script.py", which).splitlines() for which in ("ours", "theirs"))
    # `properties` is the protocol's own field; Triton's copy of the contract lacks it.
    extra = {line for line in set(ours) - set(theirs) if "ModelMetadataResponse" not in line}
    assert not extra
    assert len(ours) > 150
