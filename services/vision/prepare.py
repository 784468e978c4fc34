"""Pictures → float32 arrays on a small thread pool, before the queue: bad pictures fail here, together.

Knows no proto and no framework.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import ParamSpec, TypeVar

import numpy as np
from PIL import Image

from services.runtime.errors import DeadlinePassed, InvalidInput, Violation
from services.runtime.pictures.decode import MAX_PIXELS, decode, flatten, pixels
from services.runtime.pictures.preprocess import ImagePreprocessing, Pixels
from services.runtime.runners.base import Array
from services.vision.places import Places

P = ParamSpec("P")
T = TypeVar("T")
CHANNEL_COUNTS = (1, 3, 4)
MOST_CHECKED_HERE = 3 * 224 * 224
# Values of a block: beyond, its pictures are better shared out among the lanes.
MOST_TOGETHER = 64 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a request: a file's bytes or an array. `field` is the proto path of either, for errors."""

    field: str
    content: bytes | Array


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What waits for the device: float32 [channels, height, width], or a block of such rows.

    `field` is the proto path for errors, with braces for the row in that of a block.
    """

    field: str
    pixels: Pixels

    @property
    def rows(self) -> Pixels:
        """float32 [N, C, H, W]; of one picture a view."""
        return self.pixels if self.pixels.ndim == 4 else self.pixels[np.newaxis]


def block(rows: Array, field: str) -> Prepared | None:
    """float32 [N, C, H, W] to be computed and answered together, if they are few values and finite.

    A tiny net answers all of them sooner than one is handed about. `field` has braces for the row.
    """
    if rows.size > MOST_TOGETHER or not np.isfinite(rows).all():
        return None
    return Prepared(field, rows)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one model wants its pictures: the steps, and the shape [C, H, W] that must come out."""

    preprocessing: ImagePreprocessing
    shape: tuple[int, ...]

    def prepare(self, picture: Picture, deadline: float | None = None) -> Prepared:
        """The array for one picture. Raises InvalidInput, or DeadlinePassed before any work."""
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlinePassed("the deadline passed before the picture was decoded")
        if isinstance(picture.content, bytes):
            steps = self.preprocessing
            image = decode(picture.content, steps.channels, picture.field, steps.least_side)
            return Prepared(picture.field, steps.apply(image))
        return Prepared(picture.field, self._from_array(picture.content, picture.field))

    def _from_array(self, array: Array, field: str) -> Pixels:
        if array.dtype == np.uint8:
            return self.preprocessing.apply(flatten(_image(array, field), self.preprocessing.channels))
        if array.dtype != np.float32:
            raise InvalidInput(
                f"{field}.dtype", f"is {array.dtype}; send UINT8 [H, W, C] or FP32 {list(self.shape)}"
            )
        if array.shape != self.shape:
            raise InvalidInput(f"{field}.shape", f"is {list(array.shape)}; this model takes {list(self.shape)}")
        if not np.isfinite(array).all():
            raise InvalidInput(field, "holds NaN or infinity; finite values are needed")
        return array


def _image(array: Array, field: str) -> Image.Image:
    """uint8 [H, W, C] → image."""
    if array.ndim != 3 or array.shape[2] not in CHANNEL_COUNTS or not array.size:
        raise InvalidInput(f"{field}.shape", f"is {list(array.shape)}; UINT8 is [height, width, 1, 3 or 4]")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InvalidInput(f"{field}.shape", f"is {list(array.shape)}; at most {MAX_PIXELS} pixels are taken")
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


class Preparer:
    """The pool, and the `places` that whoever uses it holds until his pictures are answered.

    The pictures of one request have at most `most_pixels` together.
    """

    def __init__(self, threads: int, limit: int, most_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lanes, self._most_pixels = max(1, threads - 1), most_pixels
        self.places = Places(limit)

    async def prepare(
        self, pictures: Sequence[Picture], recipe: Recipe, deadline: float | None = None
    ) -> list[Prepared]:
        """All pictures in order, or one InvalidInput that names every bad one.

        A request has one picture less in the pool than there are threads, but one at least: whatever it holds,
        others get their turn. Raises DeadlinePassed when nobody waits any more.
        """
        if len(pictures) == 1:
            return [await self._alone(pictures[0], recipe, deadline)]
        if len(pictures) * MAX_PIXELS > self._most_pixels:
            await self._run(check_together, pictures, self._most_pixels)
        lanes = asyncio.Semaphore(self._lanes)

        async def one(picture: Picture) -> Prepared:
            async with lanes:
                return await self._run(recipe.prepare, picture, deadline)

        return _all_or_named(await asyncio.gather(*map(one, pictures), return_exceptions=True))

    async def _alone(self, picture: Picture, recipe: Recipe, deadline: float | None) -> Prepared:
        if _is_ready(picture):
            return recipe.prepare(picture, deadline)
        return await self._run(recipe.prepare, picture, deadline)

    def close(self) -> None:
        """Lets the running pictures finish, drops the waiting ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))


def _is_ready(picture: Picture) -> bool:
    """A net's input of usual size: to look it through takes the loop less than to hand it to a thread and back."""
    array = picture.content
    return not isinstance(array, bytes) and array.dtype == np.float32 and array.size <= MOST_CHECKED_HERE


def check_together(pictures: Sequence[Picture], most: int) -> None:
    """Raises InvalidInput, before any is decoded, if pictures have over `most` pixels together."""
    sums = list(accumulate(map(_pixels, pictures)))
    if sums[-1] > most:
        field = next(picture.field for picture, total in zip(pictures, sums, strict=True) if total > most)
        many = f"the request's pictures have {sums[-1]} pixels together, at most {most} are taken"
        raise InvalidInput(field, f"{many}; scale them down or send fewer")


def _pixels(picture: Picture) -> int:
    """What has to be decoded or resized: nothing of a picture that will be refused, or is a net's input."""
    if isinstance(picture.content, bytes):
        try:
            return pixels(picture.content, picture.field)
        except InvalidInput:
            return 0
    array = picture.content
    return array.shape[0] * array.shape[1] if array.dtype == np.uint8 and array.ndim == 3 else 0


def _all_or_named(results: Sequence[Prepared | BaseException]) -> list[Prepared]:
    bad: list[Violation] = []
    for result in results:
        if isinstance(result, InvalidInput):
            bad.extend(result.violations)
        elif isinstance(result, BaseException):
            raise result
    if bad:
        raise InvalidInput.many(bad)
    return [result for result in results if isinstance(result, Prepared)]
