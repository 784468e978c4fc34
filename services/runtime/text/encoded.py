"""What encoding a text gives, as plain columns. Knows no tokenizer library and no proto."""

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Input = str | tuple[str, str]
"""A text, or a pair of texts encoded together."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded text or pair: columns of equal length, one entry a token. Treat them as read-only.

    offsets         (start, end) in code points of the token's own text; (0, 0) for added special tokens
    type_ids        segment of the token as the model wants it (BERT: 0 and 1)
    special_mask    1 for special tokens that encoding or padding added, else 0
    attention_mask  0 for padding, else 1
    word_ids        index of the word within its text; None for added special tokens
    sequence_ids    0 for the first text, 1 for the second of a pair; None for added special tokens
    overflowing     the windows that truncation cut off, specials included
    """

    ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]]
    type_ids: Sequence[int]
    special_mask: Sequence[int]
    attention_mask: Sequence[int]
    word_ids: Sequence[int | None]
    sequence_ids: Sequence[int | None]
    overflowing: tuple["Encoded", ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, positions: Sequence[int]) -> "Encoded":
        """The tokens at `positions`, in that order, without overflowing windows."""
        if not positions:
            return EMPTY
        pick = operator.itemgetter(*positions, positions[0])
        columns: list[Any] = [pick(column)[:-1] for column in self.columns()]
        return Encoded(*columns)

    def columns(self) -> tuple[Any, ...]:
        """The eight columns in field order."""
        return (
            self.ids,
            self.tokens,
            self.offsets,
            self.type_ids,
            self.special_mask,
            self.attention_mask,
            self.word_ids,
            self.sequence_ids,
        )

    def as_second(self) -> "Encoded":
        """The same tokens as the second text of a pair: type and sequence 1."""
        return replace(
            self, type_ids=[1] * len(self), sequence_ids=[None if s is None else 1 for s in self.sequence_ids]
        )


EMPTY = Encoded((), (), (), (), (), (), (), ())


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """The columns of `parts`, one after another."""
    columns = zip(*(part.columns() for part in parts), strict=True)
    joined: list[Any] = [list(itertools.chain.from_iterable(column)) for column in columns]
    return Encoded(*joined)
