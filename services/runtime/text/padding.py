"""Fills encodings up to a common length. Pure: it never touches a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.runtime.text.encoded import Encoded, concatenate
from services.runtime.text.truncation import Side

Target = Literal["longest", "max", "multiple"]


@dataclass(frozen=True, slots=True)
class Padding:
    """Pad to the longest, to `length` tokens, or to the longest rounded up to a multiple of `length`."""

    to: Target
    pad_id: int
    pad_token: str
    length: int = 0
    side: Side = "right"
    pad_type_id: int = 0


def pad(batch: Sequence[Encoded], rule: Padding) -> list[Encoded]:
    """All of `batch`, overflowing windows too, at least as long as `rule` says; nothing is cut."""
    size = padded_length(max(map(len, batch), default=0), rule)
    return [pad_to(encoded, size, rule) for encoded in batch]


def padded_length(longest: int, rule: Padding) -> int:
    """Tokens of each encoding of a batch after `pad`, unless it is longer already."""
    if rule.to == "max":
        return rule.length
    if rule.to == "multiple":
        return -(-longest // rule.length) * rule.length
    return longest


def pad_to(encoded: Encoded, size: int, rule: Padding) -> Encoded:
    """`encoded` and its overflowing windows, each filled up to `size` tokens."""
    windows = tuple(pad_to(window, size, rule) for window in encoded.overflowing)
    missing = max(0, size - len(encoded))
    filler = _filler(missing, rule)
    parts = [encoded, filler] if rule.side == "right" else [filler, encoded]
    padded = concatenate(parts) if missing else encoded
    return replace(padded, overflowing=windows)


def _filler(count: int, rule: Padding) -> Encoded:
    return Encoded(
        ids=[rule.pad_id] * count,
        tokens=[rule.pad_token] * count,
        offsets=[(0, 0)] * count,
        type_ids=[rule.pad_type_id] * count,
        special_mask=[1] * count,
        attention_mask=[0] * count,
        word_ids=[None] * count,
        sequence_ids=[None] * count,
    )
