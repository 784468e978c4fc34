"""Bytes → other bytes. Knows no format."""

import random
import struct
from collections.abc import Callable, Sequence

EDGES = (0, 1, 2, *(2**bits - less for bits in (7, 8, 15, 16, 31, 32, 63, 64) for less in (0, 1)))
FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")


def mutated(draw: random.Random, data: bytes, others: Sequence[bytes] = (b"",)) -> bytes:
    """`data` after one to four changes; some splice in a stretch of one of `others`."""
    for _ in range(draw.choice((1, 1, 2, 3, 4))):
        data = draw.choice(CHANGES)(draw, data, draw.choice(others))
    return data


def _place(draw: random.Random, data: bytes) -> int:
    """Half of the time where headers are."""
    return draw.randrange(min(len(data), draw.choice((64, 1 << 30))) or 1)


def flip(draw: random.Random, data: bytes, other: bytes) -> bytes:
    found = bytearray(data or b"\0")
    for _ in range(draw.choice((1, 1, 8, 64))):
        found[_place(draw, found)] ^= 1 << draw.randrange(8)
    return bytes(found)


def edge(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """A number that breaks things, where a length or a size may have stood."""
    form = draw.choice(FORMATS)
    written = struct.pack(form, draw.choice(EDGES) & (1 << 8 * struct.calcsize(form)) - 1)
    at = _place(draw, data)
    return data[:at] + written + data[at + len(written) :]


def cut(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def lose(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + data[at + draw.choice((1, 2, 7, 100)) :]


def repeat(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = _place(draw, data)
    piece = data[at : at + draw.choice((1, 4, 16, 300))]
    return data[:at] + piece * draw.choice((2, 3, 50)) + data[at:]


def insert(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw.randbytes(draw.choice((1, 3, 40))) + data[at:]


def splice(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at, start = _place(draw, data), _place(draw, other)
    return data[:at] + other[start : start + draw.choice((4, 30, 1 << 20))] + data[at:]


CHANGES: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    *(flip, flip, edge, edge),
    *(cut, lose, repeat, insert, splice),
)
