"""Every format, mode and orientation ends as the same upright picture; hostile bytes end as InvalidInput."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.runtime.errors import InvalidInput
from services.runtime.pictures import decode as decode_module
from services.runtime.pictures.decode import MAX_BYTES, MOST_SCANS, decode, scans
from tests.unit.vision.pictures import bmp_header, encode, gif_header, png, quarters

FIELD = "images[3].encoded"
CENTRES = ((5, 10), (5, 30), (15, 10), (15, 30))  # (y, x) of each quarter
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
LOSSY = 12  # grey levels


def close(image: Image.Image, wanted: Image.Image, tolerance: int = LOSSY) -> bool:
    got, want = (np.asarray(picture, np.int16) for picture in (image, wanted))
    return got.shape == want.shape and bool(np.abs(got - want)[4:6, 8:12].max() <= tolerance)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
def test_formats(format: str, options: dict[str, object]) -> None:
    image = decode(encode(quarters(), format, **options), 3, FIELD)
    pixels = np.asarray(image, np.int16)
    assert image.mode == "RGB" and image.size == (40, 20)
    for (y, x), colour in zip(CENTRES, COLOURS, strict=True):
        assert np.abs(pixels[y, x] - colour).max() <= LOSSY


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_modes_become_rgb_and_grey(mode: str) -> None:
    format = "JPEG" if mode == "CMYK" else "PNG"
    encoded = encode(Image.new("RGB", (16, 16), "white").convert(mode), format)
    assert np.asarray(decode(encoded, 3, FIELD)).min() >= 254
    assert decode(encoded, 1, FIELD).mode == "L"


def test_cmyk_keeps_its_colour() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    red = np.asarray(decode(encode(cmyk, "JPEG", quality=95), 3, FIELD), np.int16)[8, 8]
    assert np.abs(red - (255, 0, 0)).max() <= LOSSY


def test_greyscale_uses_luma_weights() -> None:
    grey = np.asarray(decode(encode(quarters(), "PNG"), 1, FIELD))
    assert [int(grey[at]) for at in CENTRES] == [76, 150, 29, 255]  # ITU-R 601-2


def test_sixteen_bits_keep_the_upper_byte() -> None:
    grey = png(2, 1, 16, 0, b"\x00" + b"\x80\x00" + b"\xff\xff")
    assert np.asarray(decode(grey, 1, FIELD)).tolist() == [[128, 255]]
    colour = png(1, 1, 16, 2, b"\x00" + b"\x80\x00" + b"\xff\xff" + b"\x10\x10")
    assert np.asarray(decode(colour, 3, FIELD)).tolist() == [[[128, 255, 16]]]


def test_transparency_lies_over_white() -> None:
    clear_black = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    half_black = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert np.asarray(decode(encode(clear_black, "PNG"), 3, FIELD)).min() == 255
    assert np.asarray(decode(encode(half_black, "PNG"), 3, FIELD)).max() == 127


def test_a_transparent_palette_entry_lies_over_white() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30])
    assert np.asarray(decode(encode(image, "PNG", transparency=0), 3, FIELD)).min() == 255


def test_only_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(decode(encoded, 3, FIELD))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quarters() if orientation == 1 else quarters().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {"quality": 95, "subsampling": 0}
    image = decode(encode(stored, format, exif=exif, **options), 3, FIELD)
    assert close(image, quarters())


def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    encoded = encode(quarters(), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert close(decode(encoded, 3, FIELD), quarters())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_truncated_files_are_named(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    encoded = encode(Image.fromarray(noise), format)
    with pytest.raises(InvalidInput) as caught:
        decode(encoded[: len(encoded) // 2], 3, FIELD)
    assert caught.value.violations[0].field == FIELD


@pytest.mark.parametrize("size", [7_000, 12_000, 50_000])
@pytest.mark.parametrize(
    "header", [lambda n: png(n, n, 8, 2, b""), lambda n: bmp_header(n, n), lambda n: gif_header(n, n)]
)
def test_bombs_are_refused_by_their_header(size: int, header: object) -> None:
    # None of these files holds pixels: only who decodes first would complain of damage instead of size.
    with pytest.raises(InvalidInput, match="at most 40000000 "):
        decode(header(size), 3, FIELD)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (b"", "is empty"),
        (b"GIF", "not a picture of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "JPEG, PNG, WEBP, BMP, GIF"),
        (b"\xff\xd8" + bytes(MAX_BYTES), f"at most {MAX_BYTES}"),
    ],
)
def test_what_is_no_picture_is_refused(encoded: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        decode(encoded, 3, FIELD)


def test_other_formats_pillow_knows_are_not_taken() -> None:
    for format in ("TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(InvalidInput):
            decode(encode(quarters(), format), 3, FIELD)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]), st.data())
def test_flipped_bytes_end_in_a_picture_or_a_named_field(format: str, data: st.DataObject) -> None:
    encoded = bytearray(encode(quarters(), format))
    for _ in range(data.draw(st.integers(1, 6))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(encoded), 3, FIELD).mode == "RGB"
    except InvalidInput as error:
        assert error.violations[0].field == FIELD


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_do_not_show(mode: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (23, 9, 4), np.uint8)
    image = Image.fromarray(samples).convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = decode_module.flatten(image, channels)
    monkeypatch.setattr(decode_module, "STRIP_PIXELS", 9 * 5)
    assert np.array_equal(np.asarray(decode_module.flatten(image, channels)), np.asarray(whole))
    assert whole.mode == {1: "L", 3: "RGB"}[channels]


@pytest.mark.parametrize(
    ("side", "least", "wanted"), [(400, 0, 400), (400, 300, 400), (400, 200, 200), (400, 100, 100), (400, 20, 50)]
)
def test_a_jpeg_is_decoded_as_small_as_allowed(side: int, least: int, wanted: int) -> None:
    encoded = encode(quarters(side * 2, side), "JPEG", quality=95, subsampling=0)
    image = decode(encoded, 3, FIELD, least)
    assert image.size == (wanted * 2, wanted)
    assert close(image, quarters(wanted * 2, wanted))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "GIF"])
def test_other_formats_are_decoded_whole(format: str) -> None:
    assert decode(encode(quarters(400, 200), format), 3, FIELD, 50).size == (400, 200)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_jpeg_is_decoded_small_and_upright(orientation: int) -> None:
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turned = quarters(400, 200).transpose(undo[orientation]) if orientation in undo else quarters(400, 200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(turned, "JPEG", quality=95, subsampling=0, exif=exif)
    image = decode(encoded, 3, FIELD, 100)
    assert image.size == (200, 100) and close(image, quarters(200, 100))


def test_a_truncated_jpeg_is_named_however_small_it_is_decoded() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    encoded = encode(Image.fromarray(noise), "JPEG")
    with pytest.raises(InvalidInput, match="truncated"):
        decode(encoded[: len(encoded) // 2], 3, FIELD, 64)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpeg_modes_are_decoded_small_too(mode: str) -> None:
    encoded = encode(Image.new("RGB", (400, 200), "white").convert(mode), "JPEG", quality=95)
    image = decode(encoded, 3, FIELD, 100)
    assert image.size == (200, 100) and np.asarray(image).min() >= 250


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_only_the_first_frame_of_any_animation_counts(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    encoded = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(decode(encoded, 3, FIELD))[0, 0].tolist() == [255, 0, 0]


@given(st.lists(st.sampled_from([0x00, 0xDA, 0xFF]), min_size=2, max_size=40).map(bytes))
def test_scans_are_counted_wherever_they_begin(encoded: bytes) -> None:
    assert scans(encoded) == encoded.count(b"\xff\xda")


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded() -> None:
    encoded = encode(quarters(), "JPEG") + b"\xff\xda" * MOST_SCANS
    with pytest.raises(InvalidInput, match=rf"has {MOST_SCANS + 1} scans, at most {MOST_SCANS}"):
        decode(encoded, 3, FIELD)
