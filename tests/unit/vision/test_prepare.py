"""Pictures become arrays on the pool, all bad ones named at once, none worked on after its deadline."""

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from services.runtime.errors import DeadlinePassed, InvalidInput, Overloaded
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.vision.prepare import Picture, Prepared, Preparer, Recipe
from tests.unit.vision.pictures import encode, quarters

RECIPE = Recipe(ImagePreprocessing(size=8, crop=8, mean=(0.0,) * 3, std=(1.0,) * 3), (3, 8, 8))


@pytest.fixture
def preparer() -> Iterator[Preparer]:
    made = Preparer(threads=2, limit=64)
    yield made
    made.close()


def files(*fields: str) -> list[Picture]:
    return [Picture(field, encode(quarters(8, 8), "PNG")) for field in fields]


async def test_order_and_fields_are_kept(preparer: Preparer) -> None:
    shades = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(40)]
    pictures = [Picture(f"images[{n}]", encode(shade, "PNG")) for n, shade in enumerate(shades)]
    prepared = await preparer.prepare(pictures, RECIPE)
    assert [item.field for item in prepared] == [f"images[{n}]" for n in range(40)]
    assert [int(item.pixels[0, 0, 0]) for item in prepared] == list(range(40))


async def test_all_bad_pictures_are_named_together(preparer: Preparer) -> None:
    pictures = files("a", "b", "c")
    pictures[0], pictures[2] = Picture("a", b"?"), Picture("c", np.zeros((1, 2), np.float32))
    with pytest.raises(InvalidInput) as caught:
        await preparer.prepare(pictures, RECIPE)
    assert [violation.field for violation in caught.value.violations] == ["a", "c.shape"]


async def test_a_passed_deadline_decodes_nothing(preparer: Preparer) -> None:
    with pytest.raises(DeadlinePassed):
        await preparer.prepare([Picture("a", b"never looked at")], RECIPE, time.monotonic() - 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_byte_tensors_equal_the_decoded_file(channels: int) -> None:
    image = quarters(12, 10).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    array = np.asarray(image).reshape(10, 12, channels)
    from_file = RECIPE.prepare(Picture("a", encode(image, "PNG")))
    assert np.array_equal(RECIPE.prepare(Picture("a", array)).pixels, from_file.pixels)


def test_a_float_tensor_is_taken_as_it_is() -> None:
    array = np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32)
    assert RECIPE.prepare(Picture("a", array)).pixels is array


class Gated(Recipe):
    """Holds the pool until the gate opens."""

    gate = threading.Event()

    def prepare(self, picture: Picture, deadline: float | None = None) -> Prepared:
        self.gate.wait()
        return super().prepare(picture, deadline)


async def test_what_waits_is_bounded_and_given_back(preparer: Preparer) -> None:
    slow = Gated(RECIPE.preprocessing, RECIPE.shape)
    held = asyncio.create_task(preparer.prepare(files(*["a"] * 60), slow))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="64 is the limit"):
        await preparer.prepare(files(*["b"] * 5), RECIPE)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    slow.gate.set()
    assert len(await preparer.prepare(files(*["c"] * 64), RECIPE)) == 64
