"""The steps of the Dockerfile, taken in an empty place, and what they make started as a container would."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokenization_grpc
from services.runtime.store.store import ModelStore
from tests.deploy.dockerfile import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.models]


def can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


class Image:
    """A built one, running."""

    def __init__(self, service: str, store: Path, log: Path) -> None:
        self._log = log
        command = ["unshare", "-m", sys.executable, "-m", "tests.deploy.image", service, str(store)]
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
    def first(self) -> int:
        """Process 1 of the container, by its number here."""
        children = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text()
        return int(children.split()[0])


@pytest.fixture(scope="module", params=["gateway", "tokenization"])
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


def test_it_serves_as_nobody_over_a_root_that_cannot_be_written_and_stops_in_order(
    image: Image, request: pytest.FixtureRequest
) -> None:
    service = request.node.callspec.params["image"]
    # The gateway has nothing behind it here, and serves all the same.
    image.await_log("serving")
    assert not [line for line in image.lines() if line["level"] in ("warning", "error") and "native" in str(line)]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{image.first}/status").read_text().splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert status["NSpid"].split()[-1] == "1"
    assert int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert Path(f"/proc/{image.first}/cmdline").read_bytes().split(b"\0")[0].endswith(b"python")
    assert not list(Path(f"/proc/{image.first}/root/opt/maas/lib").rglob("torch"))
    root = Path(f"/proc/{image.first}/mountinfo").read_text().splitlines()
    assert any(line.split()[4] == "/" and line.split()[5].startswith("ro") for line in root)
    with grpc.insecure_channel(image.await_log("listening")["address"]) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        if service == "tokenization":
            stub = tokenization_grpc.TokenizationServiceStub(channel)
            answer = stub.Tokenize(tokenization.TokenizeRequest(texts=["Hello world!"]))
            assert answer.encodings[0].ids == [19556, 905, 17]
    os.kill(image.first, signal.SIGTERM)
    assert image.running.wait(30) == 0
