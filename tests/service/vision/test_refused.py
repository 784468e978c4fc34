"""What is refused, by which name."""

import asyncio

import grpc
import numpy as np
import pytest
import torch
from grpc import aio

from maas.vision.v1 import vision_pb2
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from tests.harness import running
from tests.service.vision.calls import Stub, classify, encoded, refusal, settings, tensor
from tests.unit.vision.pictures import png


async def test_every_bad_picture_is_named_and_none_is_answered(stub: Stub) -> None:
    images = encoded(0, 1, 2, 3)
    images[1].encoded = b"no picture"
    images[3].encoded = images[3].encoded[:60]
    code, _, violations = await refusal(stub.Classify(classify(images)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations) == ["images[1].encoded", "images[3].encoded"]
    assert "known format" in violations["images[1].encoded"] and "truncated" in violations["images[3].encoded"]


async def test_a_bomb_is_refused(stub: Stub) -> None:
    bomb = vision_pb2.Image(encoded=png(50_000, 50_000, 8, 2, b""))
    code, _, violations = await refusal(stub.Classify(classify([bomb])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "pixels" in violations["images[0].encoded"]


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.zeros((1, 27, 28), np.float32), "images[0].pixels.shape"),
        (np.full((1, 28, 28), np.nan, np.float32), "images[0].pixels"),
        (np.zeros((1, 28, 28), np.float64), "images[0].pixels.dtype"),
        (np.zeros((28, 28, 2), np.uint8), "images[0].pixels.shape"),
        (np.zeros((28, 0, 3), np.uint8), "images[0].pixels.shape"),
    ],
)
async def test_bad_tensors_are_named(stub: Stub, array: np.ndarray, field: str) -> None:
    code, _, violations = await refusal(stub.Classify(classify([tensor(array)])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == [field]


async def test_a_tensor_of_the_wrong_length_is_named(stub: Stub) -> None:
    image = tensor(np.zeros((1, 28, 28), np.float32))
    image.pixels.data = image.pixels.data[:-4]
    code, _, violations = await refusal(stub.Classify(classify([image])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "images[0].pixels.shape" in violations


@pytest.mark.parametrize("count", [0, 65])
async def test_one_to_sixty_four_pictures(stub: Stub, count: int) -> None:
    code, _, violations = await refusal(stub.Classify(classify(encoded(0) * count)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "images" in violations


async def test_an_overflowing_picture_does_not_fail_its_batch_mates(stub: Stub) -> None:
    huge = tensor(np.full((1, 28, 28), 3e38, np.float32))
    calls = [stub.Classify(classify(encoded(seed))) for seed in range(8)]
    bad = asyncio.ensure_future(refusal(stub.Classify(classify([*encoded(9), huge]))))
    replies = await asyncio.gather(*calls)
    code, _, violations = await bad
    assert all(len(reply.results) == 1 for reply in replies)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == ["images[1].pixels"]


async def test_unknown_models_and_versions_are_not_found(stub: Stub) -> None:
    code, text, _ = await refusal(stub.Classify(classify(encoded(0), model="nothing")))
    assert code is grpc.StatusCode.NOT_FOUND and "digits" in text
    code, text, _ = await refusal(stub.Classify(classify(encoded(0), version="7")))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_many_pixels_together_are_refused(store: ModelStore, net: torch.nn.Module) -> None:
    async with running(settings(store, request_megapixels=40), build) as (channel, _):
        images = [vision_pb2.Image(encoded=png(5000, 5000, 8, 2, b""))] * 2
        code, _, violations = await refusal(Stub(channel).Classify(classify(images)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "50000000 pixels together, at most 40000000" in violations["images[1].encoded"]


async def test_a_spent_deadline_computes_nothing(stub: Stub) -> None:
    code, _, _ = await refusal(stub.Classify(classify(encoded(*range(64))), timeout=0.001))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_full_queue_refuses_with_a_hint(store: ModelStore, net: torch.nn.Module) -> None:
    async with running(settings(store, image_queue_limit=64, batch_images=1), build) as (channel, _):
        stub = Stub(channel)
        calls = [stub.Classify(classify(encoded(*range(64)))) for _ in range(8)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, aio.AioRpcError)]
        assert len(errors) < 8, "an accepted call must be answered"
        assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert (await stub.Classify(classify(encoded(0)))).results, "and the queue is free again"
