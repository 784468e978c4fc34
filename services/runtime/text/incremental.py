"""Streaming decode: token ids in one by one, text out as soon as it is certain. Knows no algorithm."""

from collections.abc import Iterable
from copy import copy

from services.runtime.text.tokenizer import Tokenizer


class IncrementalDecoder:
    """One stream of ids of one tokenizer.

    The concatenated returns equal `tokenizer.decode` of all the ids, wherever they are split; a
    character is never given in halves, and U+FFFD only where the whole decode has it.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._fold = tokenizer.fold(skip_special_tokens)

    def push(self, token_id: int) -> str:
        """The text that `token_id` makes certain; amortised constant time."""
        return self._fold.push(token_id)

    def push_all(self, token_ids: Iterable[int]) -> str:
        """`push` of each, in order."""
        return "".join([self._fold.push(token_id) for token_id in token_ids])

    def fork(self) -> "IncrementalDecoder":
        """Another in the same state, which goes its own way from here."""
        other = copy(self)
        other._fold = self._fold.fork()
        return other

    def flush(self) -> str:
        """The text held back until now. Nothing may be pushed after it."""
        return self._fold.flush()
