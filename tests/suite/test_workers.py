"""`--workers N`: several processes on one port, told apart from outside only by their speed."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from maas.model.v1 import model_service_pb2 as models
from maas.model.v1 import model_service_pb2_grpc as models_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime.store.store import ModelStore
from tests.suite.conftest import _serving, free_ports

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def port(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Two tokenization workers over a store that holds one small model."""
    (chosen,) = free_ports(1)
    store = tmp_path_factory.mktemp("workers") / "store"
    newest = model_store.resolve("mistral-spm", "")
    with ModelStore(store).publish("mistral-spm") as draft:
        for file in newest.files:
            data = (model_store.directory(newest) / file).read_bytes()
            (draft.directory / file).write_bytes(data)
        draft.fields.update(newest.model_dump(exclude={"name", "version", "files"}))
    arguments = ["--workers=2", f"--port={chosen}", f"--store={store}", "--lame-duck-s=0.2", "--store-poll-s=0.2"]
    log = store.parent / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "services.tokenization", *arguments], stderr=file)
    end = time.monotonic() + 60
    while not _serving(f"127.0.0.1:{chosen}"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.1)
    yield chosen
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0, log.read_text()


def call(port: int) -> pb.TokenizeResponse:
    """Over a connection of its own: the kernel picks the worker."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        stub = pb_grpc.TokenizationServiceStub(channel)
        return stub.Tokenize(pb.TokenizeRequest(model="mistral-spm", texts=["Hello world!"]), timeout=10)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM while a worker is dead", "SIGKILL"])
def test_stopping_is_orderly(tmp_path: Path, how: str) -> None:
    """A terminal's Ctrl-C goes to the whole process group; each worker must hear of it once."""
    (chosen,) = free_ports(1)
    arguments = ["--workers=2", f"--port={chosen}", f"--store={tmp_path}", "--lame-duck-s=0.2"]
    command = [sys.executable, "-m", "services.tokenization", *arguments]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, start_new_session=True)
    end = time.monotonic() + 30
    while log.read_text().count('"listening"') < 2:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    workers = _children(process.pid)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    elif how == "SIGKILL":
        process.kill()
    else:
        os.kill(_children(process.pid)[0], signal.SIGKILL)
        while "worker died" not in log.read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=20)
    assert code == {"Ctrl-C": 0, "SIGKILL": -9}.get(how, 9), log.read_text()
    assert "forced" not in log.read_text()
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < end, "workers outlived their supervisor"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def _children(parent: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def scraped(port: int) -> str:
    """One worker answers for all, and maybe not the one that served first."""
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
                return reply.read().decode()
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_metrics_are_the_sum_over_the_workers(port: int) -> None:
    for _ in range(20):
        assert list(call(port).encodings[0].ids)[-3:] == [22557, 1526, 28808]
    end = time.monotonic() + 20
    # Each worker tells its own twice a second.
    while (found := _tokenized(scraped(port + 4000))) < 20:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert found == 20


def _tokenized(text: str) -> float:
    found = re.findall(r'^grpc_server_call_started_total\{grpc_method="\S+/Tokenize"\} (\S+)$', text, re.M)
    return sum(map(float, found))


def test_an_administrative_call_reaches_every_worker(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        models_grpc.ModelServiceStub(channel).UnloadModel(models.UnloadModelRequest(model="mistral-spm"))
    end = time.monotonic() + 20
    refusals = 0
    while refusals < 10:
        assert time.monotonic() < end
        try:
            call(port)
            refusals = 0
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            refusals += 1
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        models_grpc.ModelServiceStub(channel).LoadModel(models.LoadModelRequest(model="mistral-spm"))
    answers = 0
    while answers < 10:
        assert time.monotonic() < end
        try:
            call(port)
            answers += 1
        except grpc.RpcError:
            answers = 0
