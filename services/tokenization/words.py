"""Ids of many texts, packed: natively or from the memo where proved to be the library's. Knows no proto."""

from array import array
from collections.abc import Sequence
from pathlib import Path

from services.runtime.text.encoded import Input
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.memo import Rows, WordMemo
from services.tokenization.native.rows import native

PROBE = "a"
PARTS = (0.25, 0.75)  # of the bytes, fine and coarse: words with what clings to them are more


class Words:
    """A tokenizer, asked for ids alone; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, memo_bytes: int = 0, kernels: Path | None = None) -> None:
        """`memo_bytes` 0: no word is remembered. `kernels`: where native models are built; None = none."""
        self.tokenizer = tokenizer
        self._rows: Rows | None = None
        for cut, part in zip(reversed(tokenizer.cuts if memo_bytes else ()), PARTS, strict=False):
            self._rows = WordMemo(cut, self._rows or self._library, int(memo_bytes * part)).rows
        if kernels is not None:
            self._rows = native(tokenizer, kernels, self._rows or self._library) or self._rows
        self._before, self._after = _frame(tokenizer) if self._rows else (b"", b"")

    def packed(self, inputs: Sequence[Input], add_special_tokens: bool) -> list[bytes]:
        """The ids of each of `inputs` (texts or pairs, not both) as little-endian uint32."""
        texts = [each for each in inputs if isinstance(each, str)]
        if self._rows is None or len(texts) < len(inputs):
            rows = self.tokenizer.encode_ids_batch(inputs, add_special_tokens=add_special_tokens)
            return list(map(packed, rows))
        ids = self._rows(texts)
        if not add_special_tokens or not (self._before or self._after):
            return ids
        return [self._before + row + self._after for row in ids]

    def _library(self, texts: Sequence[str]) -> list[bytes]:
        return list(map(packed, self.tokenizer.encode_ids_batch(texts, add_special_tokens=False)))


def packed(ids: Sequence[int]) -> bytes:
    """Little-endian uint32."""
    return array("I", ids).tobytes()


def _frame(tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    """The special tokens that the tokenizer puts before and behind a text."""
    probe = tokenizer.encode(PROBE)
    inside = [index for index, special in enumerate(probe.special_mask) if not special] or [len(probe)]
    return packed(probe.ids[: inside[0]]), packed(probe.ids[inside[-1] + 1 :])
