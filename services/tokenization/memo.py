"""A bounded memory of word → ids, and the judgement when it does not pay. Knows no library and no proto.

It holds words of users, in this process alone: never written, logged or told. What is remembered is answered some
microseconds sooner, so a caller with a good clock may guess that a rare word was seen lately.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from services.runtime.text.cuts import Cut

Rows = Callable[[Sequence[str]], list[bytes]]
"""The packed ids of each of some texts."""

LONGEST = 256  # characters of a word that is kept
ENTRY_BYTES = 160  # beside the characters, of at most four bytes, and the ids
# A word alone costs the library about twice what it costs within a text, so a text is asked for by its words when
# at most half of it is unknown. The other texts go below whole, but for one in so many, which is learnt from:
# enough to know a language after some texts, and little lost on text without repetition.
WORTHWHILE = 2
SAMPLED = 16


class _Missing(NamedTuple):
    """A text that is not all known: its words, and the ids of those that are."""

    place: int
    words: Sequence[str] | None
    found: Sequence[bytes | None] | None


class WordMemo:
    """Ids of texts as the ids of their words in a row; any number of threads may ask.

    Two generations share the bytes: when the young one is full it becomes the old one, and what is asked for again
    moves back. Nothing is ever taken out of a generation, so a call may keep the one that it began with.
    """

    def __init__(self, cut: Cut, below: Rows, most_bytes: int) -> None:
        """`below` answers for what is not remembered: texts, or words as `cut` spells them."""
        self._cut, self._below, self._most = cut, below, most_bytes // 2
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._held = 0
        self._strange = 0
        self._lock = threading.Lock()

    def rows(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each of `texts`, as `below` would give them."""
        known = self._young
        rows: list[bytes] = []
        missing: list[_Missing] = []
        for index, words in enumerate(map(self._cut.parts, texts)):
            found = None if words is None else list(map(known.get, words))
            try:
                rows.append(b"".join(found))  # type: ignore[arg-type]
            except TypeError:  # None among them
                rows.append(b"")
                missing.append(_Missing(index, words, found))
        if missing:
            self._complete(texts, rows, missing, known)
        return rows

    def _complete(
        self, texts: Sequence[str], rows: list[bytes], missing: Sequence[_Missing], known: dict[str, bytes]
    ) -> None:
        back: dict[str, bytes] = {}
        new: dict[str, None] = {}
        by_words: list[_Missing] = []
        whole: list[int] = []
        for each in missing:
            unknown = self._unknown(each, back, new)
            if unknown is not None and self._pays(unknown, texts[each.place]):
                by_words.append(each)
                new.update(dict.fromkeys(unknown))
            else:
                whole.append(each.place)
        found = self._below([*map(self._cut.spell, new), *(texts[index] for index in whole)])
        self._keep(back | dict(zip(new, found, strict=False)), known)
        for index, row in zip(whole, found[len(new) :], strict=True):
            rows[index] = row
        for each in by_words:
            rows[each.place] = b"".join(map(known.__getitem__, each.words or ()))

    def _unknown(self, text: _Missing, back: dict[str, bytes], new: Mapping[str, None]) -> set[str] | None:
        """Words that must be asked for; what the old generation remembers goes to `back`."""
        if text.words is None or text.found is None:
            return None
        pairs, old = zip(text.words, text.found, strict=True), self._old
        unknown = {word for word, ids in pairs if ids is None and word not in new and word not in back}
        again = {word: old[word] for word in unknown if word in old} if old else {}
        back.update(again)
        return unknown.difference(again)

    def _pays(self, unknown: set[str], text: str) -> bool:
        """Whether to ask for the unknown words of a text rather than for the text."""
        if not all(map(self._cut.certain, unknown)) or max(map(len, unknown), default=0) > LONGEST:
            return False
        if len(unknown) < 2 or sum(map(len, unknown)) * WORTHWHILE <= len(text):
            return True
        sampled = self._strange % SAMPLED == 0
        self._strange += 1
        return sampled

    def _keep(self, learnt: Mapping[str, bytes], known: dict[str, bytes]) -> None:
        with self._lock:
            fresh = {word: ids for word, ids in learnt.items() if word not in known}
            known.update(fresh)
            if known is self._young:
                self._held += sum(map(len, fresh)) * 4 + sum(map(len, fresh.values())) + len(fresh) * ENTRY_BYTES
                if self._held > self._most:
                    self._old, self._young, self._held = known, {}, 0
