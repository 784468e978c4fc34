"""The characters that native models know, by kind. Knows no library: tests compare each of them with one.

Only blocks of which every character has been a letter, or neither letter nor number nor white space, since Unicode
6, and that no normalizer of a model with rules changes. All others are left to the library.
"""

import string
from collections.abc import Iterable

UNKNOWN, LETTER, DIGIT, MARK, BLANK = range(5)
COUNT = 0x20000  # code points that have a kind

Ranges = tuple[tuple[int, int], ...]

ASCII = {string.ascii_letters: LETTER, string.digits: DIGIT, string.punctuation: MARK, " \t\n\r": BLANK}

# \p{L} and [^\s\p{L}\p{N}] of GPT-2's expression.
LETTERS: Ranges = (
    *((0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2AF), (0x388, 0x38A), (0x38E, 0x3A1), (0x3A3, 0x3CE), (0x400, 0x481)),
    *((0x48A, 0x523), (0x531, 0x556), (0x5D0, 0x5EA), (0x621, 0x63A), (0x641, 0x64A), (0x10D0, 0x10FA)),
    *((0x1E00, 0x1EFF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x30FC, 0x30FE), (0x3400, 0x4DB5), (0x4E00, 0x9FA5)),
    (0xAC00, 0xD7A3),
)
MARKS: Ranges = (
    *((0xA1, 0xA9), (0xAB, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF), (0xD7, 0xD7)),
    *((0xF7, 0xF7), (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20B5), (0x2190, 0x22FF), (0x2500, 0x26FF)),
    *((0x3001, 0x3003), (0x3008, 0x3020), (0xFE0F, 0xFE0F), (0xFF01, 0xFF0F), (0xFF1A, 0xFF20), (0xFF5B, 0xFF65)),
    *((0x1F300, 0x1F64F), (0x1F680, 0x1F6C5), (0x1F900, 0x1F9FF)),
)
# What BERT makes a word of by itself, and does not change: punctuation, and ideographs where it is told to.
PUNCTUATION: Ranges = (
    *((0x2010, 0x2027), (0x3001, 0x3003), (0x3008, 0x3011), (0xFF01, 0xFF01), (0xFF08, 0xFF09), (0xFF0C, 0xFF0C)),
    *((0xFF1A, 0xFF1B), (0xFF1F, 0xFF1F)),
)
IDEOGRAPHS: Ranges = ((0x3400, 0x4DB5), (0x4E00, 0x9FA5))


def characters(ranges: Ranges) -> Iterable[str]:
    """The characters of each range, one behind the other."""
    return ("".join(map(chr, range(first, last + 1))) for first, last in ranges)


def byte_level(known: frozenset[int]) -> bytes:
    """The kind of each code point; `known`: the bytes that the vocabulary has."""

    def spelt(ranges: Ranges) -> Ranges:
        return tuple(each for each in ranges if known.issuperset("".join(characters((each,))).encode()))

    return _table((spelt(LETTERS), LETTER), (spelt(MARKS), MARK))


def bert(ideographs: bool) -> bytes:
    """The kind of each code point; `ideographs`: whether each of them is a word."""
    return _table((PUNCTUATION, MARK), (IDEOGRAPHS if ideographs else (), MARK))


def _table(*groups: tuple[Ranges, int]) -> bytes:
    table = bytearray(COUNT)
    for letters, kind in ASCII.items():
        for letter in letters:
            table[ord(letter)] = kind
    for ranges, kind in groups:
        for first, last in ranges:
            table[first : last + 1] = bytes([kind]) * (last + 1 - first)
    return bytes(table)
