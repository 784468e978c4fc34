"""Finds the spellings of special tokens in a text. Knows no tokenizer library."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.runtime.errors import PreconditionFailed


class SpecialToken(NamedTuple):
    """A control token; `lstrip` / `rstrip`: it swallows the white space on that side."""

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False


class SpecialTokens:
    """All control tokens of a vocabulary."""

    def __init__(self, tokens: Sequence[SpecialToken]) -> None:
        self.by_text = {token.text: token.id for token in tokens}
        longest_first = sorted(tokens, key=lambda token: -len(token.text))
        self._pattern = re.compile("|".join(map(_pattern, longest_first))) if longest_first else None

    def split(self, text: str) -> list[str | int]:
        """`text` as pieces of text and ids, empty pieces left out."""
        if self._pattern is None:
            return [text] if text else []
        parts: list[str | int] = []
        end = 0
        for match in self._pattern.finditer(text):
            parts += [text[end : match.start()], self.by_text[match[match.lastindex or 0]]]
            end = match.end()
        return [part for part in [*parts, text[end:]] if part != ""]


def _pattern(token: SpecialToken) -> str:
    before, after = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
    return f"{before}({re.escape(token.text)}){after}"


def named_id(token_id: Callable[[str], int | None], role: str, token: str | None) -> int | None:
    """The id of the spec's `role` token, None if it names none; PreconditionFailed if it does not exist."""
    if token is None:
        return None
    found = token_id(token)
    if found is None:
        raise PreconditionFailed(f"{role} token {token!r} is not in the vocabulary", reason="BAD_TOKENIZER")
    return found
