"""Keeps texts out of an output, however they are cut into tokens. No torch, no tokenizer: a speller is given."""

from collections.abc import Callable


class BadWords:
    """The end of one sequence's output as bytes, as far as a bad word could have begun in it."""

    def __init__(self, words: tuple[bytes, ...], spell: Callable[[int], bytes]) -> None:
        self._words = words
        self._spell = spell
        self._reach = max(map(len, words), default=1) - 1
        self._tail = b""

    def completed_by(self, token: int) -> bool:
        """Whether a bad word would be in the output after `token`."""
        if not self._words:
            return False
        text = self._tail + self._spell(token)
        return any(word in text for word in self._words)

    def push(self, token: int) -> None:
        """`token` was chosen."""
        if self._reach:
            self._tail = (self._tail + self._spell(token))[-self._reach :]
