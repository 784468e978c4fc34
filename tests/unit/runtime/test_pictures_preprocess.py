"""Preprocessing equals the plain recipe: resize the whole, cut the centre, normalise."""

import numpy as np
import pytest
from PIL import Image

from services.runtime.errors import PreconditionFailed
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.store.manifest import Manifest

IMAGENET = ImagePreprocessing(mean=(127.0,) * 3, std=(128.0,) * 3)
DIGITS = ImagePreprocessing(channels=1, resize="exact", size=28, crop=0, interpolation="bilinear", invert="auto")


def clouds(width: int, height: int) -> Image.Image:
    """Smooth as a photograph: where Pillow's filter window ends by a rounding error must not show."""
    coarse = np.random.default_rng(1).integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def plain(image: Image.Image) -> np.ndarray:
    short = min(image.size)
    width, height = image.width * 256 // short, image.height * 256 // short
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    whole = image.resize((width, height), Image.Resampling.BICUBIC)
    cut = np.asarray(whole.crop((left, top, left + 224, top + 224)), np.float32)
    return ((cut - 127) / 128).transpose(2, 0, 1)


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (256, 256), (100, 77), (1000, 640)])
def test_one_pass_equals_resize_then_crop(size: tuple[int, int]) -> None:
    got = IMAGENET.apply(clouds(*size))
    assert got.shape == (3, 224, 224) and got.dtype == np.float32 and got.flags.c_contiguous
    levels = np.abs(got - plain(clouds(*size))) * 128
    assert levels.max() <= 2.01 and levels.mean() <= 0.2  # grey levels, from rounding


@pytest.mark.parametrize("size", [(1, 1), (1, 200_000), (200_000, 1), (3, 5)])
def test_extreme_shapes_stay_small(size: tuple[int, int]) -> None:
    assert IMAGENET.apply(Image.new("RGB", size, "white")).shape == IMAGENET.shape == (3, 224, 224)


def test_mean_and_std_are_on_the_byte_scale() -> None:
    white = IMAGENET.apply(Image.new("RGB", (300, 300), "white"))
    assert white.min() == white.max() == 1.0
    per_channel = IMAGENET.model_copy(update={"mean": (255.0, 0.0, 0.0), "std": (1.0, 1.0, 255.0)})
    assert per_channel.apply(Image.new("RGB", (300, 300), "white"))[:, 0, 0].tolist() == [0.0, 255.0, 1.0]


def test_auto_inversion_looks_at_the_border() -> None:
    paper = Image.new("L", (28, 28), 255)
    paper.paste(0, (10, 10, 18, 18))
    board = Image.eval(paper, lambda value: 255 - value)
    assert np.array_equal(DIGITS.apply(paper), DIGITS.apply(board))
    assert DIGITS.apply(board)[0, 14, 14] == 255.0 and DIGITS.apply(board)[0, 0, 0] == 0.0


def test_inversion_can_be_fixed() -> None:
    black = Image.new("L", (28, 28), 0)
    for invert, wanted in (("always", 255.0), ("never", 0.0)):
        assert DIGITS.model_copy(update={"invert": invert}).apply(black).max() == wanted


@pytest.mark.parametrize(
    ("preprocessing", "told"),
    [
        ({"sise": 256}, "sise"),
        ({"size": 100, "crop": 224, "mean": [1, 1, 1], "std": [1, 1, 1]}, "crop must lie within size"),
        ({"crop": 0, "mean": [1, 1, 1], "std": [1, 1, 1]}, "short_side needs one"),
        ({"mean": [1.0], "std": [1.0, 1.0, 1.0]}, "one value a channel"),
        ({"std": [0.0]}, "std"),
        ({"size": 28, "crop": 0, "resize": "exact", "channels": 1}, "has no `inputs`"),
    ],
)
def test_a_wrong_manifest_is_named(preprocessing: dict[str, object], told: str) -> None:
    manifest = Manifest(name="m", version=1, tasks=("vision.classify",), preprocessing=preprocessing)
    with pytest.raises(PreconditionFailed, match=told):
        ImagePreprocessing.of(manifest)


@pytest.mark.parametrize("invert", ["never", "always"])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_the_plain_formula_bit_by_bit(channels: int, invert: str) -> None:
    mean, std = (123.675, 116.28, 103.53)[:channels], (58.395, 57.12, 57.375)[:channels]
    recipe = ImagePreprocessing(
        channels=channels, resize="exact", size=40, crop=0, mean=mean, std=std, invert=invert
    )
    image = clouds(40, 40).convert("L" if channels == 1 else "RGB")
    values = np.asarray(image, np.float32).reshape(40, 40, channels)
    values = 255 - values if invert == "always" else values
    wanted = (values - np.array(mean, np.float32)) / np.array(std, np.float32)
    got = recipe.apply(image)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, wanted.transpose(2, 0, 1))
