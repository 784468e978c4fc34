"""Ids of texts by the native model, and by what lies below where it has none. Knows no proto."""

import logging
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from services.runtime.compiled import NoCompiler
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.memo import Rows
from services.tokenization.native.kinds import ASCII
from services.tokenization.native.library import ID_BYTES, WORDS, Encoder, Hole
from services.tokenization.native.rules import of_document

log = logging.getLogger(__name__)

LETTERS = "".join(ASCII)
PAIRS = "".join(first + second for first in LETTERS for second in LETTERS)


class NativeRows:
    """A tokenizer's ids; any number of threads may ask."""

    def __init__(self, encoder: Encoder, barred: re.Pattern[str] | None, below: Rows) -> None:
        """`below` answers for texts that match `barred`, and for parts with characters of unknown kind."""
        self._encoder, self._barred, self._below = encoder, barred, below

    def rows(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each of `texts`, as `below` would give them."""
        search = self._barred.search if self._barred else None
        whole = [Hole(row, 0, text) for row, text in enumerate(texts) if search(text)] if search else []
        ours = list(texts)
        for hole in whole:
            ours[hole.row] = ""
        rows, holes = self._encoder.encode(ours)
        holes += whole
        if holes:
            parts = self._below([hole.part for hole in holes])
            for row, found in groupby(zip(holes, parts, strict=True), lambda pair: pair[0].row):
                rows[row] = _filled(rows[row], found)
        return rows


def native(tokenizer: Tokenizer, folder: Path, below: Rows) -> Rows | None:
    """Rows of `tokenizer` by the native model that is built in `folder`.

    None where cutting is not proved, a step of it is another, no compiler is at hand or a sample disagrees.
    """
    rules = of_document(tokenizer.document()) if tokenizer.cuts else None
    if rules is None:
        return None
    try:
        encoder = Encoder(WORDS.library(folder.expanduser()), rules)
    except (NoCompiler, OSError) as error:
        log.warning("words are not encoded natively: %s", error)
        return None
    rows = NativeRows(encoder, tokenizer.cuts[-1].barred, below).rows
    if rows([PAIRS]) != below([PAIRS]):
        log.error("words are not encoded natively: ids of %s differ from its library's", tokenizer.digest)
        return None
    return rows


def _filled(row: bytes, found: Iterable[tuple[Hole, bytes]]) -> bytes:
    taken, pieces = 0, list[bytes]()
    for hole, ids in found:
        pieces += row[taken : hole.at * ID_BYTES], ids
        taken = hole.at * ID_BYTES
    return b"".join([*pieces, row[taken:]])
