"""Labels in a running suite: stable and canary side by side, a move under load, one command back.

Each version names its classes after itself, so an answer of one that is told as another's shows.
"""

import asyncio
import base64
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, pairwise

import grpc
import numpy as np
import pytest
from PIL import Image

from maas.model.v1 import model_pb2
from maas.model.v1 import model_service_pb2 as models
from maas.model.v1 import model_service_pb2_grpc as models_grpc
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1 import vision_service_pb2_grpc as vision_grpc
from services.runtime.store.store import ModelStore
from tests.suite.conftest import Suite, link_or_copy

pytestmark = pytest.mark.models
NAME = "digits-by-label"
CLASSIFY = "maas.vision.v1.VisionService/Classify"
PATIENCE_S = 30
FAILED = model_pb2.MODEL_STATE_FAILED


def publish(store: ModelStore, broken: bool = False) -> int:
    """The digit classifier as the next version of NAME; class `3` of version 2 is called `3 of 2`."""
    digits = store.resolve("mnist-cnn", "1")
    source, number = store.directory(digits), len(store.versions(NAME)) + 1
    with store.publish(NAME) as draft:
        for file in digits.files:
            if broken:
                (draft.directory / file).write_bytes((source / file).read_bytes()[:100])
            elif file != digits.labels:
                link_or_copy(str(source / file), str(draft.directory / file))
        (draft.directory / "labels.txt").write_text("".join(f"{n} of {number}\n" for n in range(10)))
        draft.fields.update(digits.model_dump(exclude={"name", "version", "files"}))
    assert draft.published and draft.published.version == number
    return number


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8)).save(file, "PNG")
    return file.getvalue()


def request(version: str = "", seed: int = 0) -> vision.ClassifyRequest:
    return vision.ClassifyRequest(model=NAME, version=version, images=[{"encoded": picture(seed)}], top_k=1)


def checked(reply: vision.ClassifyResponse) -> int:
    """The version that answered, which must be the one whose words the answer is in."""
    version = int(reply.served_by.version)
    assert reply.results[0].labels[0].name.endswith(f" of {version}")
    return version


def answering(suite: Suite, version: str = "", door: str = "gateway") -> int:
    return checked(vision_grpc.VisionServiceStub(suite.channel(door)).Classify(request(version), timeout=30))


def await_answer(suite: Suite, wanted: int, version: str = "") -> None:
    """Waits until the gateway answers with a version; a label that is not there yet is NOT_FOUND until then."""
    end, got = time.monotonic() + PATIENCE_S, None
    while got != wanted:
        assert time.monotonic() < end, f"{version or 'a call without a version'} gets {got}, not {wanted}"
        try:
            got = answering(suite, version)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
        time.sleep(0.05)


def command(suite: Suite, *arguments: str) -> str:
    """What `maas models …` prints."""
    line = [sys.executable, "-m", "cli", "models", *arguments, "--store", str(suite.store)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def labelled(suite: Suite) -> Iterator[Suite]:
    """Version 1 is stable, 2 the canary."""
    store = ModelStore(suite.store)
    for label in ("stable", "canary"):
        store.set_label(NAME, label, publish(store))
    await_answer(suite, 2, "canary")
    await_answer(suite, 1)
    yield suite
    for label in ("stable", "canary"):
        store.set_label(NAME, label, None)


def test_stable_answers_and_the_canary_is_asked_for_by_name(labelled: Suite) -> None:
    for door in ("gateway", "vision"):
        for version, expected in (("", 1), ("stable", 1), ("canary", 2), ("2", 2)):
            images = [{"encoded": base64.b64encode(picture(0)).decode()}]
            body = {"model": NAME, "version": version, "images": images, "top_k": 1}
            reply = labelled.grpcurl(CLASSIFY, body, door)
            assert reply.code == 0, reply.error
            assert reply.messages[0]["served_by"]["version"] == str(expected)
            assert reply.messages[0]["results"][0]["labels"][0]["name"].endswith(f" of {expected}")


async def load(suite: Suite, stop: asyncio.Event, seen: list[int]) -> None:
    """Calls one after the other until told to stop, new pictures and repeated ones; any failure is raised."""
    async with grpc.aio.insecure_channel(suite.address()) as channel:
        stub = vision_grpc.VisionServiceStub(channel)
        for number in count():
            seen.append(checked(await stub.Classify(request(seed=number % 7 or number), timeout=30)))
            if stop.is_set():
                return
            await asyncio.sleep(0.01)


async def test_a_moved_label_moves_traffic_and_loses_no_call(labelled: Suite) -> None:
    stop = asyncio.Event()
    seen: list[list[int]] = [[] for _ in range(4)]
    clients = [asyncio.create_task(load(labelled, stop, one)) for one in seen]
    try:
        for arguments, now in ((("label", NAME, "stable", "2"), 2), (("rollback", NAME), 1)):
            told = await asyncio.to_thread(command, labelled, *arguments)
            assert f"stable → {now}" in told
            async with asyncio.timeout(PATIENCE_S):
                while any(one[-1:] != [now] for one in seen):
                    await asyncio.sleep(0.05)
                    assert not any(client.done() for client in clients)
    finally:
        stop.set()
        await asyncio.gather(*clients)
    for one in seen:
        moves = sum(before != after for before, after in pairwise(one))
        assert (one[0], moves) == (1, 2), one


def test_a_cached_answer_stays_with_its_version(labelled: Suite) -> None:
    stub = vision_grpc.VisionServiceStub(labelled.channel())
    for version in ("1", "2"):
        stub.Classify(request(version, seed=99), timeout=30)
    for version, expected in (("", 1), ("stable", 1), ("canary", 2)):
        reply, call = stub.Classify.with_call(request(version, seed=99), timeout=30)
        assert checked(reply) == expected
        assert dict(call.initial_metadata())["x-maas-cache"].startswith("hit")


def test_a_label_by_rpc_holds_at_once_and_is_told_to_watchers(labelled: Suite) -> None:
    stub = models_grpc.ModelServiceStub(labelled.channel())
    watch = stub.WatchModels(models.WatchModelsRequest(model=NAME), timeout=PATIENCE_S)
    while not next(watch).snapshot_end:
        pass
    reply = stub.SetLabel(models.SetLabelRequest(model=NAME, label="stable", version="canary"))
    assert (reply.model.version, reply.model.answers_unversioned) == ("2", True)
    change = next(news.model for news in watch if "stable" in news.model.version_labels)
    assert (change.version, change.answers_unversioned) == ("2", True)
    assert answering(labelled, door="vision") == 2
    await_answer(labelled, 2)
    assert "stable → 1" in command(labelled, "rollback", NAME)
    await_answer(labelled, 1)


def test_a_broken_canary_says_why_and_the_rest_serves(labelled: Suite) -> None:
    store = ModelStore(labelled.store)
    version = publish(store, broken=True)
    store.set_label(NAME, "broken", version)
    stub = models_grpc.ModelServiceStub(labelled.channel())
    end = time.monotonic() + PATIENCE_S
    asked = models.GetModelRequest(model=NAME, version=str(version))
    while "broken" not in (found := stub.GetModel(asked).model).version_labels or found.state != FAILED:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert found.state_reason
    with pytest.raises(grpc.RpcError) as caught:
        answering(labelled, "broken")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert [answering(labelled, label) for label in ("", "stable", "canary")] == [1, 1, 2]
    store.set_label(NAME, "broken", None)
    store.remove(NAME, version)
