"""Code point offsets → UTF-8 byte offsets. Pure."""

import itertools
from collections.abc import Sequence


def byte_positions(text: str) -> Sequence[int]:
    """Entry i is where code point i begins in the UTF-8 of `text`; one more entry for its end."""
    if text.isascii():
        return range(len(text) + 1)
    return list(itertools.accumulate(map(_utf8_length, text), initial=0))


def _utf8_length(character: str) -> int:
    code = ord(character)
    return 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
