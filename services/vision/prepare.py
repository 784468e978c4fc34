"""Pictures → float32 arrays on a small thread pool, before the queue: bad pictures fail here, together.

Knows no proto and no framework.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.runtime.errors import DeadlinePassed, InvalidInput, Overloaded, Violation
from services.runtime.pictures.decode import MAX_PIXELS, decode, flatten
from services.runtime.pictures.preprocess import ImagePreprocessing, Pixels
from services.runtime.runners.base import Array

RETRY_AFTER_S = 1.0
CHANNEL_COUNTS = (1, 3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a request: a file's bytes or an array. `field` is the proto path of either, for errors."""

    field: str
    content: bytes | Array


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What waits for the device: float32 [channels, height, width]."""

    field: str
    pixels: Pixels


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
            image = decode(picture.content, self.preprocessing.channels, picture.field)
            return Prepared(picture.field, self.preprocessing.apply(image))
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
    """The pool. At most `limit` pictures wait for it."""

    def __init__(self, threads: int, limit: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._limit = limit
        self._inside = 0

    async def prepare(
        self, pictures: Sequence[Picture], recipe: Recipe, deadline: float | None = None
    ) -> list[Prepared]:
        """All pictures in order, or one InvalidInput that names every bad one.

        Raises Overloaded when too many wait, DeadlinePassed when nobody waits any more.
        """
        if self._inside + len(pictures) > self._limit:
            raise Overloaded(
                f"{self._inside} pictures wait to be decoded, {self._limit} is the limit; retry later",
                reason="QUEUE_FULL",
                retry_after_s=RETRY_AFTER_S,
            )
        self._inside += len(pictures)
        try:
            return _all_or_named(await self._gather(pictures, recipe, deadline))
        finally:
            self._inside -= len(pictures)

    def close(self) -> None:
        """Lets the running pictures finish, drops the waiting ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _gather(
        self, pictures: Sequence[Picture], recipe: Recipe, deadline: float | None
    ) -> list[Prepared | BaseException]:
        loop = asyncio.get_running_loop()
        work = [loop.run_in_executor(self._pool, recipe.prepare, picture, deadline) for picture in pictures]
        return await asyncio.gather(*work, return_exceptions=True)


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
