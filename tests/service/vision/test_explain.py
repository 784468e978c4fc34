"""Explain over a real server and stub: checked against the net's own numbers and gradients."""

import asyncio
import io
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from maas.vision.v1 import vision_pb2
from maas.vision.v1.vision_service_pb2 import ExplainRequest, ExplainResponse
from services.runtime.store.store import ModelStore
from services.runtime.tensors import to_numpy
from services.vision.__main__ import build
from services.vision.models import registry
from tests.harness import running
from tests.service.vision.calls import (
    FIELDS,
    Stub,
    classify,
    encoded,
    normalised,
    refusal,
    settings,
    tensor,
)

BLACK = np.full((1, 28, 28), -33 / 78, np.float32)
LINEAR = {"inputs": 784, "hidden": [], "classes": 10}


@pytest.fixture
def linear(store: ModelStore) -> torch.nn.Module:
    torch.manual_seed(2)
    module = registry.build("mlp", LINEAR).eval()
    with store.publish("linear") as draft:
        save_file(module.state_dict(), draft.directory / "model.safetensors")
        (draft.directory / "labels.txt").write_text("".join(f"digit {n}\n" for n in range(10)))
        outputs = [FIELDS["outputs"][0], {"name": "features", "dtype": "float32", "shape": [-1, 784]}]
        draft.fields.update(FIELDS | {"architecture": "mlp", "config": LINEAR, "outputs": outputs})
    return module


@pytest.fixture
async def stub(store: ModelStore, net: torch.nn.Module, linear: torch.nn.Module) -> AsyncIterator[Stub]:
    async with running(settings(store), build) as (channel, _):
        yield Stub(channel)


def logits(net: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(pixels)[None])[0][0].numpy()


def asked(**options: object) -> ExplainRequest:
    return ExplainRequest(**({"image": encoded(0)[0]} | options))


def heat(reply: ExplainResponse) -> np.ndarray:
    return to_numpy(reply.attributions, "attributions")


async def test_attributions_sum_to_the_rise_of_the_best_logit(stub: Stub, net: torch.nn.Module) -> None:
    reply = await stub.Explain(asked())
    (answer,) = (await stub.Classify(classify(encoded(0), top_k=1))).results
    assert (reply.target.index, reply.target.name) == (answer.labels[0].index, answer.labels[0].name)
    assert reply.target.score == pytest.approx(answer.labels[0].score, abs=1e-5)
    rise = (logits(net, normalised(0)) - logits(net, BLACK))[reply.target.index]
    assert heat(reply).shape == (28, 28)
    assert abs(heat(reply).sum() - rise) == pytest.approx(reply.convergence_delta, abs=1e-4)
    assert reply.convergence_delta < 0.02 * abs(rise)
    assert not reply.overlay_png
    assert (reply.served_by.model, reply.timing.batch_size) == ("digits", 1)
    assert reply.timing.total_ms >= reply.timing.compute_ms > 0


async def test_a_linear_net_is_explained_exactly(stub: Stub, linear: torch.nn.Module) -> None:
    reply = await stub.Explain(asked(model="linear", target_index=3, steps=1))
    weights = linear.classifier.weight[3].detach().numpy().reshape(28, 28)
    np.testing.assert_allclose(heat(reply), weights * (normalised(0) - BLACK)[0], atol=1e-5)
    assert (reply.target.index, reply.target.name) == (3, "digit 3")
    assert reply.convergence_delta < 1e-4


async def test_grad_cam_is_the_weighted_maps_of_the_last_convolution(stub: Stub, net: torch.nn.Module) -> None:
    method = vision_pb2.EXPLAIN_METHOD_GRAD_CAM
    reply = await stub.Explain(asked(target_index=7, method=method))
    with torch.enable_grad():
        x = torch.from_numpy(normalised(0))[None]
        for conv in net.convs[:2]:
            x = F.max_pool2d(F.relu(conv(x)), 2)
        maps = net.convs[2](x)
        hidden = F.relu(net.hidden(F.max_pool2d(F.relu(maps), 2).flatten(1)))
        (slope,) = torch.autograd.grad(net.classifier(hidden)[0, 7], maps)
    coarse = F.relu((slope.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
    wanted = F.interpolate(coarse, (28, 28), mode="bilinear")[0, 0].detach().numpy()
    np.testing.assert_allclose(heat(reply), wanted, atol=1e-6)
    assert heat(reply).max() > 0 and reply.convergence_delta == 0


async def test_an_overlay_is_a_picture_of_the_input(stub: Stub) -> None:
    reply = await stub.Explain(asked(overlay=True, steps=4))
    image = Image.open(io.BytesIO(reply.overlay_png))
    assert (image.format, image.size) == ("PNG", (28, 28))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"target_index": 10}, "target_index"),
        ({"steps": 0}, "steps"),
        ({"steps": 501}, "steps"),
        ({"method": 9}, "method"),
        ({"model": "linear", "method": vision_pb2.EXPLAIN_METHOD_GRAD_CAM}, "method"),
        ({"image": vision_pb2.Image(encoded=b"no picture")}, "image.encoded"),
        ({"image": tensor(np.zeros((1, 27, 28), np.float32))}, "image.pixels.shape"),
        ({"image": tensor(np.full((1, 28, 28), 3e38, np.float32))}, "image.pixels"),
        ({"image": None}, "image"),
    ],
)
async def test_bad_questions_are_named(stub: Stub, options: dict[str, object], field: str) -> None:
    code, _, violations = await refusal(stub.Explain(asked(**options)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == [field]


async def test_unknown_models_are_not_found(stub: Stub) -> None:
    code, text, _ = await refusal(stub.Explain(asked(model="nothing")))
    assert code is grpc.StatusCode.NOT_FOUND and "digits" in text


async def test_others_are_answered_while_one_explains(stub: Stub) -> None:
    await stub.Explain(asked(steps=1))
    long = [asyncio.ensure_future(stub.Explain(asked(steps=500))) for _ in range(4)]
    answered = await stub.Classify(classify(encoded(1)))
    assert answered.results and not any(call.done() for call in long)
    code, text, _ = await refusal(stub.Explain(asked(steps=1)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "retry" in text
    for call in long:
        call.cancel()
    await asyncio.gather(*long, return_exceptions=True)
    assert (await stub.Classify(classify(encoded(1)))).results == answered.results
