"""What the sequence service costs with its default models: no torch, little memory."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.prepare import choose_runner
from services.runtime.store.store import ModelStore
from tests.suite.conftest import link_or_copy

pytestmark = pytest.mark.models
MOST_MIB = 350
SCRIPT = """
import asyncio, re, sys
from pathlib import Path
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running

async def main():
    settings = SequenceSettings(port=0, metrics_port=0, lame_duck_s=0, store=Path(sys.argv[1]), threads=1)
    async with running(settings, build) as (channel, _):
        stub = SequenceServiceStub(channel)
        print((await stub.Transduce(pb.TransduceRequest(texts=["computer"]))).results[0].text)
        await stub.Embed(pb.EmbedRequest(texts={"values": ["a man", "eats bread"]}))
        await stub.Classify(pb.ClassifyRequest(series={"values": [{"packed": bytes(4 * 1600)}]}))
    print("torch" in sys.modules)
    print(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0])

asyncio.run(main())
"""


@pytest.fixture
def store(model_store: ModelStore, tmp_path: Path) -> ModelStore:
    """The default models; what spells is published anew, as `make models` does it."""
    made = ModelStore(tmp_path / "store")
    for name in ("minilm-l6-v2", "silero-vad"):
        shutil.copytree(model_store.root / name, made.root / name, copy_function=link_or_copy)
    spelling = model_store.resolve("g2p-en")
    with made.publish(spelling.name) as draft:
        shutil.copy(model_store.directory(spelling) / "model.safetensors", draft.directory)
        left_out = {"name", "version", "files", "runner", "packed"}
        draft.fields.update(spelling.model_dump(mode="json", exclude=left_out))
        choose_runner(draft)
    return made


def test_the_default_models_are_served_without_torch(store: ModelStore) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store.root)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    spelt, torch_there, peak_kib = done.stdout.splitlines()
    assert spelt == "K AH0 M P Y UW1 T ER0"
    assert torch_there == "False"
    assert int(peak_kib) / 1024 < MOST_MIB
