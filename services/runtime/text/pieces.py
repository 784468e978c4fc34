"""Turns the sentencepiece library's rows into encoding columns. Pure: it never touches a model."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.runtime.text.encoded import EMPTY, Encoded, concatenate

SPACE = "▁"


def plain(mapping: Mapping[str, Any], unk_id: int, unk_token: str) -> Encoded:
    """The library's `offset_mapping` of one text: offsets in code points, no special tokens.

    The library spells an unknown token as the text it stands for; here tokens are vocabulary entries.
    """
    ids = mapping["ids"]
    spelt = zip(ids, mapping["pieces"], strict=True)
    tokens = [unk_token if token_id == unk_id else piece for token_id, piece in spelt]
    count = len(ids)
    offsets = byte_groups_covered(mapping["offsets"], tokens)
    return Encoded(ids, tokens, offsets, [0] * count, [0] * count, [1] * count, [None] * count, [0] * count)


def control(token: str, token_id: int, length: int) -> Encoded:
    """A control piece spelt in the text by `length` code points."""
    return Encoded([token_id], [token], [(0, length)], [0], [0], [1], [None], [0])


def added(token: str, token_id: int) -> Encoded:
    """A control piece that encoding adds, from no place in the text."""
    return Encoded([token_id], [token], [(0, 0)], [0], [1], [1], [None], [None])


def joined(parts: Sequence[Encoded], starts: Sequence[int]) -> Encoded:
    """One text's parts, each moved to its start, with words counted over the whole."""
    moved = [_moved(part, start) for part, start in zip(parts, starts, strict=True)]
    whole = concatenate(moved) if moved else EMPTY
    return replace(whole, word_ids=_word_ids(whole))


def byte_groups_covered(offsets: Sequence[tuple[int, int]], tokens: Sequence[str]) -> list[tuple[int, int]]:
    """The library gives a character's place to its last byte token only; here all its bytes get it."""
    covered = list(offsets)
    for index in range(len(covered) - 2, -1, -1):
        start, end = covered[index]
        if start == end and _is_byte(tokens[index]) and _is_byte(tokens[index + 1]):
            covered[index] = covered[index + 1]
    return covered


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x")


def _moved(part: Encoded, by: int) -> Encoded:
    if not by:
        return part
    return replace(part, offsets=[(start + by, end + by) for start, end in part.offsets])


def _word_ids(whole: Encoded) -> list[int | None]:
    """A word begins at the first token and at every piece that carries a space."""
    in_text = [sequence is not None for sequence in whole.sequence_ids]
    first = in_text.index(True) if True in in_text else 0
    begins = [
        inside and (token.startswith(SPACE) and index > first)
        for index, (inside, token) in enumerate(zip(in_text, whole.tokens, strict=True))
    ]
    words = itertools.accumulate(begins)
    return [int(word) if inside else None for word, inside in zip(words, in_text, strict=True)]
