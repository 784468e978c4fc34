"""Versions that come, and those that cannot be served."""

import asyncio

import grpc
import pytest
from grpc import aio

from maas.model.v1 import model_service_pb2, model_service_pb2_grpc
from services.runtime.floor import Floor
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from services.vision.settings import VisionSettings
from tests.harness import running
from tests.service.vision.calls import FIELDS, Stub, classify, encoded, publish, refusal, settings


async def test_a_forced_runner_is_part_of_the_digest_everywhere(store: ModelStore) -> None:
    publish(store, "digits", seed=1, runner="onnxruntime")  # not exported: only the forced runner can serve it
    async with running(settings(store, runner="torch"), build) as (channel, _):
        served = (await Stub(channel).Classify(classify(encoded(0)))).served_by
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        model = (await models.GetModel(model_service_pb2.GetModelRequest(model="digits"))).model
        assert (model.runner, model.digest) == ("torch", served.digest)
        assert served.digest != store.resolve("digits").digest


async def test_a_new_version_swaps_in_without_a_lost_call(
    server: tuple[aio.Channel, Floor[VisionSettings]], stub: Stub, store: ModelStore
) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(server[0])
    publish(store, "digits", seed=2)
    swap = asyncio.ensure_future(models.LoadModel(model_service_pb2.LoadModelRequest(model="digits")))
    seen = []
    while not swap.done():
        seen.append((await stub.Classify(classify(encoded(0)))).served_by.version)
    await swap
    assert set(seen) <= {"1", "2"} and seen == sorted(seen)
    assert (await stub.Classify(classify(encoded(0)))).served_by.version == "2"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preprocessing": {"sise": 3}}, "sise"),
        ({"architecture": "resnet50"}, "resnet50"),
        ({"outputs": FIELDS["outputs"][:1]}, "gives logits and features"),
        ({"inputs": [{"name": "images", "dtype": "float32", "shape": [-1, 784]}]}, "takes one [-1, C, H, W]"),
        ({"labels": None}, "0 labels"),
        ({"preprocessing": FIELDS["preprocessing"] | {"size": 32}}, "gives (1, 32, 32)"),
        ({"config": {"classes": 11}}, "misshapen"),
        ({"runner": "onnxruntime"}, "has no model.onnx"),
    ],
)
async def test_a_broken_version_leaves_the_old_one_serving(
    server: tuple[aio.Channel, Floor[VisionSettings]],
    stub: Stub,
    store: ModelStore,
    changes: dict[str, object],
    told: str,
) -> None:
    publish(store, "digits", seed=3, **changes)
    models = model_service_pb2_grpc.ModelServiceStub(server[0])
    code, text, _ = await refusal(models.LoadModel(model_service_pb2.LoadModelRequest(model="digits")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and told in text
    assert (await stub.Classify(classify(encoded(0)))).served_by.version == "1"
