"""Keeps texts out of an output, however they are cut into tokens. No torch, no tokenizer: spellings are given."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np


class Prefix(NamedTuple):
    """The first `length` bytes that the sorted texts from `first` up to `stop` share."""

    first: int
    stop: int
    length: int


Open = tuple[Prefix, ...]
"""The ends of an output that begin a text: all that decides which tokens would complete one."""


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
        if first == len(self._sorted) or not self._sorted[first].startswith(text):
            return []
        end = bisect_left(self._sorted, text + b"\xff" * (self.longest + 1))
        return self._order[first:end]


class BadWords:
    """Texts that the outputs of one request never contain; its sequences share it, each with its own `Open`."""

    def __init__(self, texts: Sequence[bytes] = (), vocabulary: Vocabulary | None = None) -> None:
        self.texts = tuple(sorted(set(texts)))
        self._vocabulary = vocabulary or Vocabulary(())
        holding = {token for text in self.texts for token in self._vocabulary.containing(text)}
        self.always = np.array(sorted(holding), np.int64)  # tokens that hold a text whole
        self._completing: dict[Prefix, frozenset[int]] = {}

    def after(self, opened: Open) -> list[int]:
        """Tokens beside `always` that would complete a text which `opened` begins; some may be in both."""
        found = frozenset[int]().union(*map(self._completions, opened))
        return sorted(found)

    def extend(self, opened: Open, token: int) -> Open:
        """What is open after one more token."""
        more = self._vocabulary.spellings[token] if self.texts else b""
        if not more:
            return opened
        begun = (Prefix(0, len(self.texts), 0) for _ in more)
        grown = [self._narrow(prefix, more) for prefix in opened]
        grown += [self._narrow(prefix, more[start:]) for start, prefix in enumerate(begun)]
        return tuple(prefix for prefix in grown if prefix.first < prefix.stop)

    def _narrow(self, prefix: Prefix, more: bytes) -> Prefix:
        """The texts that go on with `more`: neighbours, as the texts are sorted; maybe none."""
        first, stop, length = prefix
        end = length + len(more)
        ends = self.texts[first], self.texts[stop - 1]
        if not all(text.startswith(more, length) for text in ends):
            first, stop = (
                bisect(self.texts, more, first, stop, key=lambda text: text[length:end])
                for bisect in (bisect_left, bisect_right)
            )
        return Prefix(first, stop, end)

    def _completions(self, prefix: Prefix) -> frozenset[int]:
        """Tokens that begin with what a text still lacks after `prefix`; looked up once a request."""
        known = self._completing.get(prefix)
        if known is None:
            lacking = [text[prefix.length :] for text in self.texts[prefix.first : prefix.stop]]
            near = [rest for rest in lacking if 0 < len(rest) <= self._vocabulary.longest]
            known = frozenset(token for rest in near for token in self._vocabulary.starting(rest))
            self._completing[prefix] = known
        return known


NO_BAD_WORDS = BadWords()
