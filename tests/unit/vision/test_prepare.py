"""Pictures become arrays on the pool, all bad ones named at once, none worked on after its deadline."""

import asyncio
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from services.runtime.errors import DeadlinePassed, InvalidInput
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.vision.prepare import Picture, Prepared, Preparer, Recipe, check_together
from tests.unit.vision.pictures import encode, png, quarters

RECIPE = Recipe(ImagePreprocessing(size=8, crop=8, mean=(0.0,) * 3, std=(1.0,) * 3), (3, 8, 8))


@pytest.fixture
def preparer() -> Iterator[Preparer]:
    made = Preparer(threads=2, limit=64, most_pixels=80_000_000)
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
    """Holds what it prepares until the gate opens."""

    gate = threading.Event()

    def prepare(self, picture: Picture, deadline: float | None = None) -> Prepared:
        assert self.gate.wait(timeout=20)
        return super().prepare(picture, deadline)


async def test_one_request_never_has_all_threads(preparer: Preparer) -> None:
    slow = Gated(RECIPE.preprocessing, RECIPE.shape)
    large = asyncio.create_task(preparer.prepare(files(*["large"] * 40), slow))
    await asyncio.sleep(0.05)  # all that the large one can have begun, it has
    assert len(await preparer.prepare(files("a", "b"), RECIPE)) == 2
    slow.gate.set()
    assert len(await large) == 40


async def test_requests_take_turns_picture_by_picture() -> None:
    single, order = Preparer(threads=1, limit=64, most_pixels=80_000_000), []

    class Told(Recipe):
        def prepare(self, picture: Picture, deadline: float | None = None) -> Prepared:
            order.append(picture.field)
            return super().prepare(picture, deadline)

    recipe = Told(RECIPE.preprocessing, RECIPE.shape)
    await asyncio.gather(*(single.prepare(files(*[name] * 9), recipe) for name in ("a", "b", "c")))
    single.close()
    assert {*order[:3]} == {*order[3:6]} == {"a", "b", "c"}


async def test_the_pixels_of_a_request_are_bounded_before_any_is_decoded(preparer: Preparer) -> None:
    headers = [Picture(f"images[{n}]", png(6000, 5000, 8, 2, b"")) for n in range(4)]  # 30 million each, no data
    headers[1] = Picture("images[1]", b"not a picture")
    with pytest.raises(InvalidInput, match=r"images\[3\]: .* 90000000 pixels together, at most 80000000"):
        await preparer.prepare(headers, RECIPE)
    with pytest.raises(InvalidInput) as caught:
        await preparer.prepare(headers[:3], RECIPE)
    assert [violation.field for violation in caught.value.violations] == ["images[0]", "images[1]", "images[2]"]


def test_arrays_of_bytes_count_and_inputs_of_a_net_do_not() -> None:
    bytes_ = Picture("a", np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(InvalidInput, match="100 pixels together, at most 99"):
        check_together([bytes_], 99)
    check_together([bytes_, Picture("b", np.zeros((3, 8, 8), np.float32))], 100)
