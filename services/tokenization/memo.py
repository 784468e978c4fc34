"""A bounded memory of word → ids, and the judgement when it does not pay. Knows no library and no proto.

It holds words of users, in this process alone: never written, logged or told. What is remembered is answered some
microseconds sooner, so a caller with a good clock may guess that a rare word was seen lately.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.runtime.text.cuts import Cut

Rows = Callable[[Sequence[str]], list[bytes]]
"""The packed ids of each of some texts."""

LONGEST = 256  # characters of a word that is kept
ENTRY_BYTES = 160  # beside the characters, of at most four bytes, and the ids
TRIED = 8  # of many texts, before the others are cut
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


@dataclass(slots=True)
class _Plan:
    """How the missing texts will be answered."""

    by_words: list[_Missing] = field(default_factory=list)
    whole: list[_Missing] = field(default_factory=list)
    new: dict[str, None] = field(default_factory=dict)  # words to ask for
    back: dict[str, bytes] = field(default_factory=dict)  # words of the old generation
    strange: int = 0  # texts whose words are not worth it


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
        self._met = SAMPLED - 1
        self._lock = threading.Lock()

    def rows(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of each of `texts`, as `below` would give them.

        Of many texts a few are tried first: unless cutting pays for half of them, the others go below uncut.
        """
        step = max(1, len(texts) // TRIED)
        if step == 1:
            return self._tried(texts, 1)[0]
        rows = [b""] * len(texts)
        rows[::step], paid = self._tried(texts[::step], step)
        others = [place for place in range(len(texts)) if place % step]
        rest = [texts[place] for place in others]
        for place, row in zip(others, self._tried(rest, 1)[0] if paid else self._below(rest), strict=True):
            rows[place] = row
        return rows

    def _tried(self, texts: Sequence[str], weight: int) -> tuple[list[bytes], bool]:
        """The ids of `texts`, each of which stands for `weight` texts; and whether cutting paid."""
        known = self._young
        rows: list[bytes] = []
        missing: list[_Missing] = []
        for place, words in enumerate(map(self._cut.parts, texts)):
            found = None if words is None else list(map(known.get, words))
            try:
                rows.append(b"".join(found))  # type: ignore[arg-type]
            except TypeError:  # None among them
                rows.append(b"")
                missing.append(_Missing(place, words, found))
        if not missing:
            return rows, True
        plan = self._plan(texts, missing, weight)
        self._complete(plan, texts, rows, known)
        return rows, 2 * plan.strange <= len(texts)

    def _plan(self, texts: Sequence[str], missing: Sequence[_Missing], weight: int) -> _Plan:
        plan = _Plan()
        for each in missing:
            unknown = self._unknown(each, plan)
            pays = unknown is not None and _worthwhile(unknown, texts[each.place])
            plan.strange += not pays
            if unknown is not None and (pays or self._sampled(weight)):
                plan.by_words.append(each)
                plan.new.update(dict.fromkeys(unknown))
            else:
                plan.whole.append(each)
        return plan

    def _complete(self, plan: _Plan, texts: Sequence[str], rows: list[bytes], known: dict[str, bytes]) -> None:
        words = list(map(self._cut.spell, plan.new))
        found = self._below(words + [texts[each.place] for each in plan.whole])
        self._keep(plan.back | dict(zip(plan.new, found, strict=False)), known)
        for each, row in zip(plan.whole, found[len(words) :], strict=True):
            rows[each.place] = row
        for each in plan.by_words:
            rows[each.place] = b"".join(map(known.__getitem__, each.words or ()))

    def _unknown(self, text: _Missing, plan: _Plan) -> set[str] | None:
        """Words that nobody has answered yet; None where the text must go below whole."""
        if text.words is None or text.found is None:
            return None
        pairs, new, back, old = zip(text.words, text.found, strict=True), plan.new, plan.back, self._old
        unknown = {word for word, ids in pairs if ids is None and word not in new and word not in back}
        again = {word: old[word] for word in unknown if word in old} if old else {}
        back.update(again)
        unknown.difference_update(again)
        keepable = max(map(len, unknown), default=0) <= LONGEST and all(map(self._cut.certain, unknown))
        return unknown if keepable else None

    def _sampled(self, weight: int) -> bool:
        """Whether to learn from a text that does not pay."""
        before, self._met = self._met, self._met + weight
        return before // SAMPLED < self._met // SAMPLED

    def _keep(self, learnt: Mapping[str, bytes], known: dict[str, bytes]) -> None:
        with self._lock:
            fresh = {word: ids for word, ids in learnt.items() if word not in known}
            known.update(fresh)
            if known is self._young:
                self._held += sum(map(len, fresh)) * 4 + sum(map(len, fresh.values())) + len(fresh) * ENTRY_BYTES
                if self._held > self._most:
                    self._old, self._young, self._held = known, {}, 0


def _worthwhile(unknown: set[str], text: str) -> bool:
    return len(unknown) < 2 or sum(map(len, unknown)) * WORTHWHILE <= len(text)
