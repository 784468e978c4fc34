"""The rarer forms of each format: animations, depths, palettes, masks, interlacing; headers that lie of sizes."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.runtime.errors import InvalidInput
from services.runtime.pictures.decode import decode, pixels
from tests.unit.vision.pictures import encode, png, quarters

FIELD = "images[0].encoded"
RED, BLUE = (255, 0, 0), (0, 0, 255)
PNG = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def shown(encoded: bytes, channels: int = 3) -> np.ndarray:
    return np.asarray(decode(encoded, channels, FIELD), np.int16)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(header: tuple[int, ...], samples: bytes, *extra: bytes) -> bytes:
    """A PNG of raw scanlines, with chunks between header and data."""
    start = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", *header))
    return start + b"".join(extra) + chunk(b"IDAT", zlib.compress(samples)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_seen(form: str) -> None:
    frames = [Image.new("RGB", (12, 10), colour) for colour in (RED, BLUE, (0, 255, 0))]
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    encoded = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(io.BytesIO(encoded)).n_frames == 3
    assert (shown(encoded) == RED).all()


def test_of_an_animated_png_the_still_picture_is_seen_where_it_has_one() -> None:
    still, *frames = (Image.new("RGB", (12, 10), colour) for colour in (RED, BLUE, (0, 255, 0)))
    encoded = encode(still, "PNG", save_all=True, default_image=True, append_images=frames)
    assert (shown(encoded) == RED).all()


def test_a_first_frame_smaller_than_its_screen_keeps_its_place() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes((0, 0, 0, *RED))
    frame = b"," + struct.pack("<HHHHB", 2, 1, 1, 1, 0) + b"\x02\x02\x4c\x01\x00;"  # one dot of colour 1
    assert shown(screen + frame)[1, 2].tolist() == list(RED)


@pytest.mark.parametrize(
    ("header", "samples", "wanted"),
    [
        ((1, 1, 16, 6, 0, 0, 0), b"\0" + b"\xff\xff\0\0\0\0\x80\0", (255, 127, 127)),  # half red
        ((1, 1, 16, 4, 0, 0, 0), b"\0" + b"\0\0\0\0", (255, 255, 255)),  # clear black
        ((1, 1, 16, 2, 0, 0, 0), b"\0" + b"\x12\x34\x56\x78\x9a\xbc", (0x12, 0x56, 0x9A)),
        ((1, 1, 8, 4, 0, 0, 0), b"\0" + b"\x00\x80", (127, 127, 127)),
        ((2, 1, 1, 0, 0, 0, 0), b"\0" + b"\x80", (255, 255, 255)),
        ((2, 1, 2, 0, 0, 0, 0), b"\0" + b"\x80", (170, 170, 170)),
        ((2, 1, 4, 0, 0, 0, 0), b"\0" + b"\x70", (0x77, 0x77, 0x77)),
    ],
)
def test_depths_and_alpha_of_png(header: tuple[int, ...], samples: bytes, wanted: tuple[int, ...]) -> None:
    assert np.abs(shown(png_with(header, samples))[0, 0] - wanted).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_of_every_depth(depth: int) -> None:
    palette = chunk(b"PLTE", bytes((*BLUE, *RED)))
    encoded = png_with((1, 1, depth, 3, 0, 0, 0), b"\0" + bytes([1 << (8 - depth)]), palette)
    assert shown(encoded)[0, 0].tolist() == list(RED)


def test_each_entry_of_a_palette_has_its_own_alpha() -> None:
    palette, alpha = chunk(b"PLTE", bytes((*BLUE, *RED))), chunk(b"tRNS", b"\x00\x80")
    seen = shown(png_with((2, 1, 8, 3, 0, 0, 0), b"\0\0\1", palette, alpha))
    assert seen[0, 0].tolist() == [255, 255, 255] and np.abs(seen[0, 1] - (255, 127, 127)).max() <= 1


@pytest.mark.parametrize(
    ("header", "key", "samples"),
    [
        ((2, 1, 8, 0, 0, 0, 0), b"\0\x07", b"\0\x07\x08"),
        ((2, 1, 8, 2, 0, 0, 0), b"\0\x07\0\x07\0\x07", b"\0" + b"\x07" * 3 + b"\x08" * 3),
    ],
)
def test_the_colour_that_a_png_calls_clear_is_white(header: tuple[int, ...], key: bytes, samples: bytes) -> None:
    seen = shown(png_with(header, samples, chunk(b"tRNS", key)))
    assert seen[0, 0].tolist() == [255, 255, 255] and seen[0, 1].tolist() == [8, 8, 8]


def test_sixteen_bit_grey_with_a_clear_colour_is_seen() -> None:
    seen = shown(png_with((2, 1, 16, 0, 0, 0, 0), b"\0\x12\x34\x80\x00", chunk(b"tRNS", b"\x12\x34")))
    assert seen[0, 1].tolist() == [128, 128, 128]


def test_an_interlaced_png_is_the_picture() -> None:
    wanted = np.random.default_rng(0).integers(0, 256, (13, 9), np.uint8)
    passes = [wanted[y::dy, x::dx] for x, y, dx, dy in ADAM7]
    samples = b"".join(b"\0" + row.tobytes() for rows in passes if rows.size for row in rows)
    assert np.array_equal(shown(png_with((9, 13, 8, 0, 0, 0, 1), samples), 1), wanted)


def bmp(width: int, height: int, bits: int, compression: int, data: bytes, extra: bytes = b"") -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    start = 14 + len(info) + len(extra)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + extra + data


@pytest.mark.parametrize(
    "encoded",
    [
        bmp(1, -2, 24, 0, bytes((0, 0, 255, 0)) + bytes((255, 0, 0, 0))),  # top row first
        bmp(1, 2, 24, 0, bytes((255, 0, 0, 0)) + bytes((0, 0, 255, 0))),
        bmp(1, 2, 16, 3, struct.pack("<HHHH", 0x1F, 0, 0xF800, 0), struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
        bmp(1, 2, 8, 1, b"\x01\x01\x00\x00\x01\x00\x00\x01", bytes((0, 0, 255, 0, 255, 0, 0, 0)) + bytes(254 * 4)),
        bmp(1, 2, 1, 0, b"\x80\0\0\0" + b"\0\0\0\0", bytes((0, 0, 255, 0, 255, 0, 0, 0))),
    ],
    ids=["top down", "bottom up", "565", "RLE8", "two colours"],
)
def test_forms_of_bmp(encoded: bytes) -> None:
    seen = shown(encoded)
    assert seen.shape == (2, 1, 3) and seen[0, 0].tolist() == list(RED) and seen[1, 0].tolist() == list(BLUE)


def test_lossless_webp_keeps_its_alpha() -> None:
    clear = Image.new("RGBA", (6, 6), (255, 0, 0, 128))
    assert np.abs(shown(encode(clear, "WEBP", lossless=True)) - (255, 127, 127)).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_a_file_cut_anywhere_is_a_picture_or_a_named_field(form: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (33, 21, 3), np.uint8)
    encoded = encode(Image.fromarray(noise), form)
    damaged = 0
    for length in range(1, len(encoded), max(1, len(encoded) // 60)):
        try:
            assert decode(encoded[:length], 3, FIELD).size == (21, 33)
        except InvalidInput as error:
            damaged += 1
            assert error.violations[0].field == FIELD
    assert damaged > 40


# --- Headers that promise more than is there --------------------------------------------------------------------


def jpeg_of(width: int, height: int) -> bytes:
    encoded = bytearray(encode(quarters(), "JPEG"))
    at = next(at for at in range(len(encoded)) if encoded[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))
    encoded[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(encoded)


def webp_extended(width: int, height: int) -> bytes:
    """An animation's header, whose canvas has no pixel yet."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = bytes(12) + b"\x10\0\0\0" + encode(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    parts = [(b"VP8X", b"\x02\0\0\0" + sizes), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_lossless(width: int, height: int) -> bytes:
    encoded = bytearray(encode(quarters(), "WEBP", lossless=True))
    encoded[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(encoded)


def gif_of(width: int, height: int) -> bytes:
    """A screen of one dot, and a frame that goes far beyond it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"


HEADERS: tuple[Callable[[int, int], bytes], ...] = (
    *(jpeg_of, webp_extended, webp_lossless, gif_of),
    lambda width, height: png(width, height, 8, 2, b""),
    lambda width, height: bmp(width, -height, 24, 0, b""),
)


@pytest.mark.parametrize("header", HEADERS, ids=["JPEG", "WebP", "lossless WebP", "GIF", "PNG", "BMP"])
@pytest.mark.parametrize("side", [6_500, 16_000])
def test_bombs_of_every_format_are_refused_by_their_header(header: Callable[[int, int], bytes], side: int) -> None:
    with pytest.raises(InvalidInput, match="at most 40000000 "):
        decode(header(side, side), 3, FIELD)
    with pytest.raises(InvalidInput, match="at most 40000000 "):
        pixels(header(side, side), FIELD)


def test_a_jpeg_that_refines_itself_without_end_is_refused() -> None:
    encoded = encode(quarters(), "JPEG", progressive=True)
    scan = encoded[encoded.rfind(b"\xff\xda") : -2]
    assert decode(encoded[:-2] + scan * 50 + encoded[-2:], 3, FIELD).size == (40, 20)
    with pytest.raises(InvalidInput, match="at most 100 are taken"):
        decode(encoded[:-2] + scan * 100 + encoded[-2:], 3, FIELD)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_pictures_without_a_pixel_are_refused(size: tuple[int, int]) -> None:
    for header in (HEADERS[0], *HEADERS[4:]):
        with pytest.raises(InvalidInput):
            decode(header(*size), 3, FIELD)
