"""Keeps texts out of an output, however they are cut into tokens. No torch, no tokenizer: spellings are given."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate


class Vocabulary:
    """The bytes that each token adds to an output; immutable."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self.spellings = spellings
        self.longest = max(map(len, spellings), default=0)
        self._joined = b"".join(spellings)
        self._starts = list(accumulate(map(len, spellings), initial=0))
        self._order = sorted(range(len(spellings)), key=spellings.__getitem__)
        self._sorted = [spellings[token] for token in self._order]

    def containing(self, text: bytes) -> Iterator[int]:
        """Tokens that hold `text` whole; a token may come twice."""
        place = self._joined.find(text)
        while place >= 0:
            token = bisect_right(self._starts, place) - 1
            if place + len(text) <= self._starts[token + 1]:
                yield token
            place = self._joined.find(text, place + 1)

    def starting(self, text: bytes) -> list[int]:
        """Tokens that begin with `text`."""
        first = bisect_left(self._sorted, text)
        end = bisect_left(self._sorted, text + b"\xff" * (self.longest + 1))
        return self._order[first:end]


class BadWords:
    """Texts that the outputs of one request never contain."""

    def __init__(self, texts: Sequence[bytes] = (), vocabulary: Vocabulary | None = None) -> None:
        self.texts = tuple(texts)
        self.reach = max(map(len, self.texts), default=1) - 1  # bytes of output that may begin a text
        self._vocabulary = vocabulary or Vocabulary(())
        self._always = {token for text in self.texts for token in self._vocabulary.containing(text)}

    def after(self, tail: bytes) -> list[int]:
        """Tokens that would put a text into an output that ends in `tail` (its last `reach` bytes or more)."""
        found = set(self._always)
        for text in self.texts:
            for cut in range(max(1, len(text) - self._vocabulary.longest), len(text)):
                if tail.endswith(text[:cut]):
                    found.update(self._vocabulary.starting(text[cut:]))
        return sorted(found)

    def extend(self, tail: bytes, token: int) -> bytes:
        """The tail after one more token."""
        return (tail + self._vocabulary.spellings[token])[-self.reach :] if self.reach else b""


NO_BAD_WORDS = BadWords()
