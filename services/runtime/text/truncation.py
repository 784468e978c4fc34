"""Cuts encodings to a length, special tokens kept. Pure: it never touches a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.runtime.errors import InvalidInput
from services.runtime.text.encoded import Encoded

Side = Literal["left", "right"]
Strategy = Literal["longest_first", "only_first", "only_second"]


@dataclass(frozen=True, slots=True)
class Truncation:
    """At most `max_tokens` tokens, specials included; `stride` tokens are shared by neighbouring windows.

    `overflowing` False leaves the windows beyond the first out.
    """

    max_tokens: int
    side: Side = "right"
    stride: int = 0
    strategy: Strategy = "longest_first"
    overflowing: bool = True


def truncate(encoded: Encoded, rule: Truncation, item: str = "texts[0]") -> Encoded:
    """`encoded` cut to `rule`, the cut-off windows in `overflowing`.

    Same ids and windows as the `tokenizers` library gives when truncation is set on the tokenizer.
    Raises InvalidInput if no text would be left or the stride does not fit the windows; `item` is the
    input's path for what is that input's fault.
    """
    if len(encoded) <= rule.max_tokens:
        return encoded
    texts = [[i for i, s in enumerate(encoded.sequence_ids) if s == text] for text in (0, 1)]
    added = [i for i, s in enumerate(encoded.sequence_ids) if s is None]
    room = rule.max_tokens - len(added)
    lengths = _lengths(len(texts[0]), len(texts[1]), room, rule, item)
    first, second = (_windows(text, n, rule, item) for text, n in zip(texts, lengths, strict=True))
    whole, *rest = [encoded.select(sorted(added + a + b)) for a, b in _combine(first, second)]
    return replace(whole, overflowing=tuple(rest))


def windows(first: int, second: int, added: int, rule: Truncation, item: str) -> tuple[int, int]:
    """How many windows `truncate` makes of texts of so many tokens, and the tokens of the first, the longest.

    Overlapping windows multiply a text; this tells by how much before any is made. `added`: special tokens.
    Raises as `truncate` does.
    """
    if first + second + added <= rule.max_tokens:
        return 1, first + second + added
    sizes = _lengths(first, second, rule.max_tokens - added, rule, item)
    counts = [_count(text, n, rule, item) for text, n in zip((first, second), sizes, strict=True)]
    return counts[0] * counts[1], sum(sizes) + added


def _lengths(first: int, second: int, room: int, rule: Truncation, item: str) -> tuple[int, int]:
    """How many tokens of each text stay."""
    if room < 1 + (second > 0):
        raise InvalidInput(
            "truncation.max_tokens",
            f"{rule.max_tokens} leaves no room for text beside the special tokens; "
            f"use at least {rule.max_tokens - room + 1 + (second > 0)}",
        )
    if rule.strategy == "longest_first":
        return _longest_first(first, second, room)
    cut_first = rule.strategy == "only_first"
    kept = (room - second, second) if cut_first else (first, room - first)
    if kept[0 if cut_first else 1] < 1:
        raise InvalidInput(item, f"the text that {rule.strategy} keeps whole leaves no room; raise max_tokens")
    return kept


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """The shorter text stays whole if it fits in half of the room; else both get half of it."""
    if second == 0:
        return room, 0
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def _windows(text: list[int], size: int, rule: Truncation, item: str) -> list[list[int]]:
    """`text` in windows of `size`, the kept one first, each sharing `stride` tokens with the one before."""
    step, count = size - rule.stride, _count(len(text), size, rule, item)
    if rule.side == "right":
        return [text[index * step : index * step + size] for index in range(count)]
    ends = [len(text) - index * step for index in range(count)]
    return [text[max(0, end - size) : end] for end in ends]


def _count(length: int, size: int, rule: Truncation, item: str) -> int:
    """How many windows of `size` a text of `length` tokens gives."""
    if size >= length:
        return 1
    if rule.stride >= size:
        raise InvalidInput(
            "truncation.stride", f"{rule.stride} must be less than the {size} tokens of {item} in a window"
        )
    return 1 - (size - length) // (size - rule.stride) if rule.overflowing else 1


def _combine(first: Sequence[list[int]], second: Sequence[list[int]]) -> list[tuple[list[int], list[int]]]:
    """Every window of one text with every window of the other; the kept pair comes first.

    The order after it is the library's: later windows of the first text lead.
    """
    kept = [(first[0], b) for b in second]
    later = [(a, b) for a in first[1:] for b in second]
    return [kept[0], *later, *kept[1:]]
