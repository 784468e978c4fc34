"""The photograph net explained: complete, and looking at the cat."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from services.runtime.device import DeviceThread
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.runners.base import Array
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from services.vision.explain import Explainer, Explanation, Method, Question
from services.vision.explain_net import ExplainNet
from services.vision.prepare import Picture, Prepared, Recipe
from services.vision.settings import VisionSettings

pytestmark = pytest.mark.models

CAT = Path(skimage.__file__).parent / "data" / "chelsea.png"
SETTINGS = VisionSettings(threads=1)


@pytest.fixture
def manifest(model_store: ModelStore) -> Manifest:
    return model_store.resolve("efficientnet-lite0")


@pytest.fixture
def cat(manifest: Manifest) -> Prepared:
    recipe = Recipe(ImagePreprocessing.of(manifest), manifest.inputs[0].shape[1:])
    return recipe.prepare(Picture("cat", CAT.read_bytes()))


@pytest.fixture
async def explainer(model_store: ModelStore, manifest: Manifest) -> AsyncIterator[Explainer]:
    torch.set_num_threads(1)
    device = DeviceThread("explain")
    yield Explainer(manifest, model_store.directory(manifest), device, SETTINGS)
    device.close()


async def explain(explainer: Explainer, cat: Prepared, method: Method, steps: int = 50) -> Explanation:
    return (await explainer.explain(cat, Question(None, method, steps, overlay=True), None)).value


def rise(store: ModelStore, manifest: Manifest, pixels: Array) -> float:
    """Of the tabby's logit, from a black picture to `pixels`."""
    net = ExplainNet(manifest, store.directory(manifest), SETTINGS.runner_settings)
    preprocessing = ImagePreprocessing.of(manifest)
    black = -np.float32(preprocessing.mean) / np.float32(preprocessing.std)
    return float((net.logits(pixels) - net.logits(np.zeros_like(pixels) + black[:, None, None]))[282])


async def test_integrated_gradients_are_complete(
    explainer: Explainer, cat: Prepared, model_store: ModelStore, manifest: Manifest
) -> None:
    found = await explain(explainer, cat, Method.INTEGRATED_GRADIENTS)
    wanted = rise(model_store, manifest, cat.pixels)
    assert found.target == 282 and found.heat.shape == cat.pixels.shape[1:]
    assert abs(found.heat.sum() - wanted) == pytest.approx(found.delta, abs=1e-3)
    assert found.delta < 0.05 * abs(wanted)


async def test_grad_cam_looks_at_the_face(explainer: Explainer, cat: Prepared) -> None:
    found = await explain(explainer, cat, Method.GRAD_CAM)
    assert found.heat.shape == cat.pixels.shape[1:] and found.heat.min() >= 0
    assert found.png.startswith(b"\x89PNG")
