"""Pictures of every format, and the same with chunks, sizes and streams that lie. Knows no service."""

import io
import random
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.suite.fuzz.hostile_bytes import EDGES, mutated

PNG, SIDE = b"\x89PNG\r\n\x1a\n", 40


@cache
def pictures() -> tuple[bytes, ...]:
    """Small good files: each format in the modes and forms that it has."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    noise[: SIDE // 2, :, :3] = (200, 30, 30)
    colour = Image.fromarray(noise)
    rgb, wide = colour.convert("RGB"), Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    return (
        *(_file(rgb, "JPEG"), _file(rgb, "JPEG", progressive=True, exif=exif), _file(rgb.convert("L"), "JPEG")),
        *(_file(rgb.convert("CMYK"), "JPEG"), _file(rgb, "PNG"), _file(colour, "PNG"), _file(wide, "PNG")),
        *(_file(palette, "PNG", transparency=3), _file(rgb.convert("1"), "PNG"), _file(rgb, "PNG", **frames)),
        *(_file(rgb, "GIF", **frames), _file(palette, "GIF", transparency=2, interlace=1), _file(rgb, "BMP")),
        *(_file(palette, "BMP"), _file(colour, "BMP"), _file(rgb, "WEBP"), _file(colour, "WEBP", lossless=True)),
        *(_file(rgb, "WEBP", exif=exif, **frames), _file(rgb.convert("L"), "PNG")),
    )


def _file(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture(draw: random.Random) -> bytes:
    """One of `pictures`, damaged: as a file, or in a chunk that says nothing of it."""
    whole = draw.choice(pictures())
    if draw.random() < 0.5:
        return mutated(draw, whole, pictures())
    if whole.startswith(PNG):
        return PNG + _chunks(draw, _png_chunks(whole), _png_chunk)
    if whole.startswith(b"RIFF"):
        body = b"WEBP" + _chunks(draw, _riff_chunks(whole), _riff_chunk)
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if whole.startswith(b"\xff\xd8"):
        return b"\xff\xd8" + _chunks(draw, _jpeg_segments(whole), _jpeg_segment)
    return _header(draw, whole)


def _chunks(draw: random.Random, chunks: list[tuple[bytes, bytes]], written: Any) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(len(chunks) or 1)
        if not chunks:
            break
        kind, data = chunks[at]
        how = draw.randrange(6)
        if how == 0:
            del chunks[at]
        elif how == 1:
            chunks.insert(draw.randrange(len(chunks)), (kind, data))
        elif how == 2:
            chunks[at] = draw.choice(chunks)[0], data
        elif how == 3 and kind == b"IDAT":
            chunks[at] = kind, zlib.compress(mutated(draw, _inflated(data)))
        else:
            chunks[at] = kind, mutated(draw, data)
    return b"".join(written(kind, data) for kind, data in chunks)


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def _png_chunks(whole: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(PNG)
    while at + 8 <= len(whole):
        (length,) = struct.unpack_from(">I", whole, at)
        found.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _riff_chunks(whole: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 12
    while at + 8 <= len(whole):
        (length,) = struct.unpack_from("<I", whole, at + 4)
        found.append((whole[at : at + 4], whole[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _jpeg_segments(whole: bytes) -> list[tuple[bytes, bytes]]:
    """Marker and content; the last is the scan with all that follows."""
    found, at = [], 2
    while at + 4 <= len(whole) and whole[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", whole, at + 2)
        found.append((whole[at : at + 2], whole[at + 4 : at + 2 + length]))
        at += 2 + length
    return [*found, (b"", whole[at:])]


def _jpeg_segment(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack(">H", (len(data) + 2) & 0xFFFF) + data if kind else data


def _header(draw: random.Random, whole: bytes) -> bytes:
    """GIF and BMP: sizes at known places."""
    form, places = ("<H", (6, 8)) if whole.startswith(b"GIF") else ("<I", (2, 10, 14, 18, 22, 28, 30, 34, 46))
    at, size = draw.choice(places), struct.calcsize(form)
    number = draw.choice((*EDGES, 5000, 65_000)) & (1 << 8 * size) - 1
    return whole[:at] + struct.pack(form, number) + whole[at + size :]
