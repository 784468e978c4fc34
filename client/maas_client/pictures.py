"""A picture from wherever it is: a file, its bytes, an array, a PIL image. Decodes nothing."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from maas.vision.v1 import vision_pb2
from maas_client import arrays


class PilImage(Protocol):
    """An image of PIL, which is needed only by who has one."""

    @property
    def mode(self) -> str: ...
    def getexif(self) -> Any: ...
    def convert(self, mode: str, /) -> Any: ...


# The path of a file; its bytes; uint8 [height, width], [height, width, channels] or float32 [channels, height,
# width] that is normalised already; or an image of PIL.
Picture = str | os.PathLike[str] | bytes | npt.NDArray[Any] | PilImage
# Modes of PIL that are pixels as they are.
PLAIN = ("L", "RGB", "RGBA")


def image(picture: Picture) -> vision_pb2.Image:
    """As the contract has it. OSError for a file that cannot be read, TypeError for what is no picture."""
    if isinstance(picture, bytes):
        return vision_pb2.Image(encoded=picture)
    if isinstance(picture, str | os.PathLike):
        return vision_pb2.Image(encoded=Path(picture).read_bytes())
    if isinstance(picture, np.ndarray):
        return vision_pb2.Image(pixels=arrays.tensor(picture[..., None] if picture.ndim == 2 else picture))
    if hasattr(picture, "getexif") and hasattr(picture, "convert"):
        return vision_pb2.Image(pixels=arrays.tensor(_pixels(picture)))
    raise TypeError(f"a picture is a path, bytes, an array or an image of PIL, not {type(picture).__name__}")


def images(pictures: Picture | Sequence[Picture]) -> list[vision_pb2.Image]:
    """One picture, or several."""
    several = isinstance(pictures, list | tuple)
    return [image(one) for one in pictures] if several else [image(pictures)]  # type: ignore[arg-type, union-attr]


def _pixels(picture: Any) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, channels], turned as its EXIF says."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture)
    plain = np.asarray(upright if upright.mode in PLAIN else upright.convert("RGB"), np.uint8)
    return plain[..., None] if plain.ndim == 2 else plain
