"""Picture → the float32 array a model wants, as its manifest says. Knows no proto and no framework."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest

Pixels = NDArray[np.float32]
Size = Annotated[int, Field(ge=0, le=4096)]

DRAFT = 2  # times the size that is wanted: as far a decoder may scale; what it costs is in the tests

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class ImagePreprocessing(BaseModel):
    """`[preprocessing]` of a vision manifest. Sizes in pixels, mean and std on the 0-255 scale.

    resize `short_side`: the short side becomes `size`, the shape is kept; `exact`: both sides become `size`.
    Then the centre `crop` × `crop` is taken (0 = all). invert `auto` turns pictures with a light border (dark
    ink on paper) to light on dark.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Literal[1, 3] = 3
    resize: Literal["short_side", "exact"] = "short_side"
    size: Size = 256
    crop: Size = 224
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    invert: Literal["never", "always", "auto"] = "never"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)

    @classmethod
    def of(cls, manifest: Manifest) -> "ImagePreprocessing":
        """The manifest's own; raises PreconditionFailed naming the wrong keys, or missing inputs and outputs."""
        try:
            found = cls(**manifest.preprocessing)
        except ValidationError as error:
            raise PreconditionFailed(f"preprocessing of {manifest.name} is wrong: {error}") from error
        if not (manifest.inputs and manifest.outputs):
            missing = "has no `inputs` or `outputs`: import it again by a manifest that names them"
            raise PreconditionFailed(f"{manifest.name}/{manifest.version} {missing}")
        return found

    @model_validator(mode="after")
    def _fixed_output(self) -> Self:
        if self.crop > self.size or (self.resize == "short_side" and self.crop == 0):
            raise ValueError("crop must lie within size, and short_side needs one")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError("mean and std need one value a channel")
        return self

    @property
    def least_side(self) -> int:
        """A larger picture may be brought down to this short side by its decoder; `apply` does the rest."""
        return DRAFT * self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """[channels, height, width] of what `apply` gives, whatever it gets."""
        side = self.crop or self.size
        return self.channels, side, side

    def apply(self, image: Image.Image) -> Pixels:
        """Image of mode RGB or L (as `channels` says) → float32 [channels, height, width], normalised."""
        values = np.asarray(self._sized(image))
        planes = values.reshape(*values.shape[:2], self.channels).transpose(2, 0, 1)
        if self.invert == "always" or (self.invert == "auto" and _light_border(values)):
            planes = 255 - planes
        mean, std = (np.array(scale, dtype=np.float32)[:, None, None] for scale in (self.mean, self.std))
        # one pass from bytes in rows of pixels to floats in planes, one more in place
        found: Pixels = np.subtract(planes, mean, out=np.empty(planes.shape, np.float32))
        found /= std
        return found

    def _sized(self, image: Image.Image) -> Image.Image:
        """Resize and crop in one pass: only the pixels that survive the crop are computed.

        Equal, up to rounding, to resizing the whole and cutting the centre out, but harmless for a picture of
        1×40,000,000 pixels.
        """
        width, height = self._resized(image.width, image.height)
        out = (self.crop, self.crop) if self.crop else (width, height)
        left, top = round((width - out[0]) / 2), round((height - out[1]) / 2)
        x, y = image.width / width, image.height / height
        right, bottom = min((left + out[0]) * x, image.width), min((top + out[1]) * y, image.height)
        return image.resize(out, FILTERS[self.interpolation], box=(left * x, top * y, right, bottom))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.resize == "exact":
            return self.size, self.size
        short = min(width, height)
        return width * self.size // short, height * self.size // short


def _light_border(values: NDArray[Any]) -> bool:
    """Whether the outermost pixels are, on average, brighter than middle grey."""
    edges = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    return bool(edges.mean() > 127.5)
