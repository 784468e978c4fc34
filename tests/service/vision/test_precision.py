"""Runner and precision of the vision service: the manifest chooses, settings may force, the digest tells."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch

from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from services.runtime.runners.quantise import quantise
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from tests.harness import running
from tests.service import digits_onnx
from tests.service.vision.calls import Stub, classify, encoded, normalised, publish, settings

Served = tuple[Stub, model_service_pb2_grpc.ModelServiceStub]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """A digit net whose manifest chose ONNX Runtime in eight bits, beside its export in fp32."""
    torch.set_num_threads(1)
    made = ModelStore(tmp_path_factory.mktemp("store"))
    folder = tmp_path_factory.mktemp("exported")
    net = publish(made, "plain", seed=1)
    digits_onnx.write(net, folder / "model.onnx")
    rows = np.stack([normalised(seed) for seed in range(32)])
    quantise(folder / "model.onnx", folder / "model.int8.onnx", "images", rows)
    publish(made, "digits", seed=1, beside=folder, runner="onnxruntime", precision="int8")
    return made


@asynccontextmanager
async def serving(
    store: ModelStore, **changes: object
) -> AsyncIterator[tuple[Stub, model_service_pb2_grpc.ModelServiceStub]]:
    async with running(settings(store, threads=2, **changes), build) as (channel, _):
        yield Stub(channel), model_service_pb2_grpc.ModelServiceStub(channel)


async def scores(stub: Stub, **fields: object) -> np.ndarray:
    reply = await stub.Classify(classify(encoded(*range(5)), top_k=10, **fields))
    rows = [{label.index: label.score for label in result.labels} for result in reply.results]
    return np.array([[row[index] for index in range(10)] for row in rows])


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, ("onnxruntime", "int8")),
        ({"vision_precision": "fp32"}, ("onnxruntime", "fp32")),
        ({"runner": "torch"}, ("torch", "fp32")),
    ],
)
async def test_what_serves_is_what_the_digest_names(
    store: ModelStore, changes: dict[str, object], served: tuple[str, str]
) -> None:
    async with serving(store, **changes) as (stub, models):
        found = (await models.GetModel(model_service_pb2.GetModelRequest(model="digits"))).model
        assert (found.runner, found.precision) == served
        chosen = store.resolve("digits").model_copy(update=dict(zip(("runner", "precision"), served, strict=True)))
        reply = await stub.Classify(classify(encoded(0)))
        assert reply.served_by.digest == found.digest == chosen.digest


async def test_eight_bits_are_near_and_fp32_is_exact(store: ModelStore) -> None:
    async with serving(store, runner="torch") as (stub, _):
        wanted = await scores(stub, model="plain")
    async with serving(store, vision_precision="fp32") as (stub, _):
        np.testing.assert_allclose(await scores(stub), wanted, atol=1e-5)
    async with serving(store) as (stub, _):
        got = await scores(stub)
        assert not np.array_equal(got, wanted)
        np.testing.assert_allclose(got, wanted, atol=0.02)


async def test_a_version_without_eight_bits_is_not_served_in_fp32_instead(store: ModelStore) -> None:
    async with serving(store, vision_precision="int8") as (stub, models):
        assert (await stub.Classify(classify(encoded(0)))).results
        plain = (await models.GetModel(model_service_pb2.GetModelRequest(model="plain"))).model
        assert plain.state == model_pb2.MODEL_STATE_FAILED and "computes in fp32" in plain.state_reason


async def test_many_at_once_are_answered_as_alone(store: ModelStore) -> None:
    async with serving(store) as (stub, _):
        together = await stub.Classify(classify(encoded(*range(30)), top_k=10))
        for seed, result in enumerate(together.results):
            lone = (await stub.Classify(classify(encoded(seed), top_k=10))).results[0]
            want = {label.index: label.score for label in lone.labels}
            for label in result.labels:
                assert label.score == pytest.approx(want[label.index], abs=1e-4)
