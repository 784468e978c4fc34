"""A few photographs → many views of them, cut, mirrored and lit as other takes might be. Knows no model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing, Pixels

LEAST_SIDE = 0.6  # of a cut's sides, of the photograph's
LIGHT = (0.7, 1.3)  # factors of brightness and of contrast


def views_of(photographs: Mapping[str, Path], preprocessing: ImagePreprocessing, each: int, seed: int) -> Pixels:
    """float32 [photographs × each, C, H, W]: each photograph whole first, then views of it. The seed decides."""
    generator = np.random.default_rng(seed)
    return np.stack(
        [
            preprocessing.apply(view)
            for name, path in sorted(photographs.items())
            for view in _views(decode(path.read_bytes(), preprocessing.channels, name), each, generator)
        ]
    )


def _views(image: Image.Image, count: int, generator: np.random.Generator) -> Iterator[Image.Image]:
    yield image
    for _ in range(count - 1):
        view = _cut(image, generator)
        if generator.random() < 0.5:
            view = ImageOps.mirror(view)
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast):
            view = kind(view).enhance(generator.uniform(*LIGHT))
        yield view


def _cut(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    width, height = (round(side * generator.uniform(LEAST_SIDE, 1)) for side in image.size)
    left = int(generator.integers(0, image.width - width + 1))
    top = int(generator.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))
