"""The steps of the Dockerfile, taken in an empty place, and what they make started as a container would.

`pytest -m slow -s tests/deploy/test_image.py` prints sizes and times; the three with torch take some minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1 import generation_service_pb2_grpc as generation_grpc
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.sequence.v1 import sequence_service_pb2_grpc as sequence_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokenization_grpc
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1 import vision_service_pb2_grpc as vision_grpc
from maas.vision.v1.vision_pb2 import EXPLAIN_METHOD_GRAD_CAM
from services.runtime.store.store import ModelStore
from tests.deploy.dockerfile import ROOT
from tests.suite.test_acceptance import CAPITAL, PICTURES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.models]

LIGHT = ("gateway", "tokenization")


def tokenized(channel: grpc.Channel) -> None:
    stub = tokenization_grpc.TokenizationServiceStub(channel)
    assert stub.Tokenize(tokenization.TokenizeRequest(texts=["Hello world!"])).encodings[0].ids == [19556, 905, 17]


def seen(channel: grpc.Channel) -> None:
    """By onnxruntime and, explained, by torch."""
    stub = vision_grpc.VisionServiceStub(channel)
    cat = {"encoded": (PICTURES / "chelsea.png").read_bytes()}
    (found,) = stub.Classify(vision.ClassifyRequest(images=[cat])).results
    assert found.labels[0].index == 282
    asked = vision.ExplainRequest(image=cat, method=EXPLAIN_METHOD_GRAD_CAM)
    assert stub.Explain(asked).target.index == 282


def spelt(channel: grpc.Channel) -> None:
    stub = sequence_grpc.SequenceServiceStub(channel)
    (found,) = stub.Transduce(sequence.TransduceRequest(texts=["computer"])).results
    assert found.text == "K AH0 M P Y UW1 T ER0"


def written(channel: grpc.Channel) -> None:
    stub = generation_grpc.GenerationServiceStub(channel)
    (found,) = stub.Generate(generation.GenerateRequest(chat=CAPITAL)).completions
    assert found.text == "The capital of France is Paris."


# Service → a call that its models answer. The gateway has nothing behind it here, and serves all the same.
ANSWERS: Mapping[str, Callable[[grpc.Channel], None]] = {
    "tokenization": tokenized,
    "vision": seen,
    "sequence": spelt,
    "generation": written,
}


BUILD = ("unshare", "-m", sys.executable, "-m", "tests.deploy.image")
NOBODY = 10001


def can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


class Image:
    """A built one, running."""

    def __init__(self, service: str, store: Path, log: Path) -> None:
        self.service, self._log, self._began = service, log, datetime.now(UTC)
        command = [*BUILD, service, str(store)]
        flags = ["--port=0", "--metrics-port=0", "--host=127.0.0.1", "--lame-duck-s=0"]
        with log.open("wb") as out:
            self.running = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=out, stderr=out)

    def lines(self) -> list[dict[str, str]]:
        """What the server has logged."""
        after = self._log.read_text().partition("\nbuilt\n")[2]
        return [json.loads(line) for line in after.splitlines() if line.startswith("{")]

    def await_log(self, message: str) -> dict[str, str]:
        while True:
            ended = self.running.poll() is not None
            for line in self.lines():
                if line["message"] == message:
                    return line
            assert not ended, self._log.read_text()[-3000:]
            time.sleep(0.2)

    @property
    def root(self) -> Path:
        """As the container sees it."""
        return Path(f"/proc/{self.first}/root")

    def tell(self) -> None:
        """What it brings beside the base, and how long it took to be there."""
        sized = subprocess.run(["du", "-sm", self.root / "opt/maas"], capture_output=True, text=True, check=True)
        at = [datetime.fromisoformat(self.await_log(message)["time"]) for message in ("listening", "serving")]
        took = [(after - before).total_seconds() for before, after in pairwise([self._began, *at])]
        told = f"listening {took[0]:.0f} s after the build began, serving {took[1]:.1f} s later"
        print(f"{self.service}: {sized.stdout.split()[0]} MiB, {told}")

    @property
    def first(self) -> int:
        """Process 1 of the container, by its number here."""
        children = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text()
        return int(children.split()[0])


@pytest.fixture(scope="module", params=["gateway", *ANSWERS])
def image(
    request: pytest.FixtureRequest, model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    if not can_mount():
        pytest.skip("no namespaces to mount in")
    made = Image(request.param, model_store.root, tmp_path_factory.mktemp("image") / f"{request.param}.log")
    made.await_log("listening")
    yield made
    made.running.kill()
    made.running.wait()


def test_it_serves_as_nobody_over_a_root_that_cannot_be_written_and_stops_in_order(image: Image) -> None:
    image.await_log("serving")
    assert not [line for line in image.lines() if line["level"] in ("warning", "error") and "native" in str(line)]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{image.first}/status").read_text().splitlines())
    assert status["Uid"].split() == [str(NOBODY)] * 4
    assert status["NSpid"].split()[-1] == "1"
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert Path(f"/proc/{image.first}/cmdline").read_bytes().split(b"\0")[0].endswith(b"python")
    brought = {one.name for one in (image.root / "opt/maas/lib").glob("python*/site-packages/*")}
    assert ("torch" in brought) != (image.service in LIGHT)
    root = Path(f"/proc/{image.first}/mountinfo").read_text().splitlines()
    assert any(line.split()[4] == "/" and line.split()[5].startswith("ro") for line in root)
    with grpc.insecure_channel(image.await_log("listening")["address"]) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        if image.service in ANSWERS:
            ANSWERS[image.service](channel)
    image.tell()
    os.kill(image.first, signal.SIGTERM)
    assert image.running.wait(30) == 0
    assert [line["message"] for line in image.lines()][-1] == "stopped"


def test_the_command_in_its_image_fills_a_volume_that_is_its_own(model_store: ModelStore, tmp_path: Path) -> None:
    """As a new volume is: what the image has there, and so the user's."""
    if not can_mount():
        pytest.skip("no namespaces to mount in")
    shutil.copytree(
        model_store.root / "mnist-cnn", tmp_path / "store" / "mnist-cnn", copy_function=shutil.copyfile
    )
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    asked = ["models", "label", "mnist-cnn", "canary", "1"]
    done = subprocess.run(
        [*BUILD, "suite", str(tmp_path / "store"), *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert ModelStore(tmp_path / "store").resolve("mnist-cnn", "canary").version == 1
