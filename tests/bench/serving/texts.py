"""Texts to tokenize, drawn from a seed: English prose, and strings in which no word comes twice."""

import base64
import random
from collections.abc import Iterator
from pydoc_data import topics

LETTERS = 500
# Eight of the 64 characters become blanks: words of eight characters.
TABLE = bytes.maketrans(b"AEIOUaei", b" " * 8)


def prose(count: int, seed: int) -> Iterator[list[str]]:
    """Windows of the Python reference manual, which every Python has; word by word its own, never two alike."""
    whole, draw = "\n".join(topics.topics.values()), random.Random(seed)
    while True:
        starts = [draw.randrange(len(whole) - LETTERS) for _ in range(count)]
        yield [whole[start : start + LETTERS] for start in starts]


def noise(count: int, seed: int) -> Iterator[list[str]]:
    """What defeats whoever remembers words."""
    draw = random.Random(seed)
    while True:
        letters = base64.b64encode(draw.randbytes(count * LETTERS * 3 // 4)).translate(TABLE).decode()
        yield [letters[start : start + LETTERS] for start in range(0, count * LETTERS, LETTERS)]


KINDS = {"prose": prose, "random strings": noise}
