"""The King James Bible out of Debian's compressed data file, by chapters. Knows no tokens and no model."""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

from services.runtime.errors import InvalidInput
from training.data import text
from training.data.mnist import Fetch

SOURCE = "deb:bible-kjv-text=4.38:usr/lib/bible.data"
SHA256 = "6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e"
MAGIC, HEADER = b"EC02", 0x54
VERSE = re.compile(r"([1-3]?[A-Za-z]+)(\d+):\d+ (.+)")
FIRST_OF_THE_NEW = "Mat"
CLEAR, FIRST_FREE, LEAST_BITS, MOST_BITS = 256, 257, 9, 16


def load(fetcher: Fetch) -> text.Corpus:
    """1,189 chapters, a verse a line, without the references; slices by testament."""
    verses = decompress(fetcher.fetch(SOURCE, SHA256)).decode("ascii")
    return replace(text.split(list(chapters(verses)), SOURCE), sha256=SHA256)


def chapters(verses: str) -> Iterator[text.Document]:
    """Documents out of lines like `Ge1:1 In the beginning …`; other lines (the title) are not verses."""
    found = [match.groups() for match in map(VERSE.fullmatch, verses.split("\n")) if match]
    testament = "old"
    for (book, _), rows in groupby(found, key=lambda row: row[:2]):
        testament = "new" if book == FIRST_OF_THE_NEW else testament
        yield text.Document("\n".join(row[2] for row in rows), testament)


def decompress(path: Path) -> bytes:
    """The windows of an `EC02` file joined. Big-endian: at 0x54 the window size, their number n, n + 1 offsets.

    A window is the body of a Unix `compress` file whose three bytes of header are left out.
    """
    data = path.read_bytes()
    if data[:4] != MAGIC or len(data) < HEADER + 8:
        raise InvalidInput("data", f"{path.name} is no compressed text of the kind {MAGIC.decode()}")
    size, count = struct.unpack_from(">II", data, HEADER)
    offsets = struct.unpack_from(f">{count + 1}I", data, HEADER + 8)
    windows = [b"".join(unpack(codes(data[first:last]))) for first, last in pairwise(offsets)]
    if offsets[-1] != len(data) or any(len(window) != size for window in windows[:-1]):
        raise InvalidInput("data", f"{path.name} is cut or damaged")
    return b"".join(windows)


def codes(packed: bytes) -> Iterator[int]:
    """LZW codes of 9 to 16 bits, least bit first, as `compress` writes them: eight codes to a group; a group
    is filled up when the width changes, after 2^bits codes or a CLEAR."""
    place, bits, known = 0, LEAST_BITS, FIRST_FREE - 1
    while place + bits <= 8 * len(packed):
        group = place
        for _ in range(8):
            if place + bits > 8 * len(packed):
                return
            word = int.from_bytes(packed[place // 8 : place // 8 + 4], "little")
            code = word >> place % 8 & (1 << bits) - 1
            place += bits
            yield code
            known += 1
            if code == CLEAR or (known >= 1 << bits and bits < MOST_BITS):
                place = group + 8 * bits
                bits, known = (LEAST_BITS, FIRST_FREE - 1) if code == CLEAR else (bits + 1, known)
                break


def unpack(numbers: Iterator[int]) -> Iterator[bytes]:
    """Lempel–Ziv–Welch (Welch 1984): a code is a byte or an earlier string with one more byte."""
    table: list[bytes] = []
    before = b""
    for code in numbers:
        if code == CLEAR:
            table, before = [], b""
            continue
        if code >= FIRST_FREE + len(table) + bool(before):
            raise InvalidInput("data", f"LZW code {code} stands for nothing yet")
        if code < CLEAR:
            now = bytes((code,))
        elif code < FIRST_FREE + len(table):
            now = table[code - FIRST_FREE]
        else:
            now = before + before[:1]
        if before and FIRST_FREE + len(table) < 1 << MOST_BITS:
            table.append(before + now[:1])
        yield now
        before = now
