"""The overlay: which colour where, and the picture below it."""

import io

import numpy as np
from PIL import Image

from services.runtime.pictures.preprocess import ImagePreprocessing
from services.vision.heatmap import overlay

GREY = ImagePreprocessing(channels=1, resize="exact", size=4, crop=0, mean=(100.0,), std=(50.0,))
COLOUR = ImagePreprocessing(channels=3, resize="exact", size=4, crop=0, mean=(0.0,) * 3, std=(1.0,) * 3)


def drawn(pixels: np.ndarray, preprocessing: ImagePreprocessing, heat: np.ndarray) -> np.ndarray:
    image = Image.open(io.BytesIO(overlay(pixels.astype(np.float32), preprocessing, heat.astype(np.float32))))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image).astype(int)


def test_without_heat_the_picture_stays() -> None:
    pixels = np.linspace(-2, 3.1, 16).reshape(1, 4, 4)
    shown = drawn(pixels, GREY, np.zeros((4, 4)))
    np.testing.assert_array_equal(shown, np.repeat((pixels[0] * 50 + 100).round()[..., None], 3, axis=2))


def test_red_for_blue_against_and_nothing_elsewhere() -> None:
    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3] = 2, -2
    shown = drawn(np.full((3, 4, 4), 100), COLOUR, heat)
    assert shown[0, 0].tolist() == [224, 20, 20]
    assert shown[3, 3].tolist() == [20, 71, 224]
    assert (shown[1:3, 1:3] == 100).all()


def test_one_wild_value_does_not_pale_the_others() -> None:
    preprocessing = ImagePreprocessing(channels=1, resize="exact", size=100, crop=0, mean=(0.0,), std=(1.0,))
    heat = np.ones((100, 100))
    heat[50, 50] = 50
    assert (drawn(np.zeros((1, 100, 100)), preprocessing, heat)[..., 0] == 204).all()
