"""Where a text may be cut so that its parts, encoded apart, give the ids of the whole. Knows no library.

A rule cuts seldomer than the tokenizer it stands for, and never elsewhere: what it does not understand stays in
one part, which the library then splits itself. So no rule needs a table of Unicode. There are two for each family:
one coarse and fast, one that leaves words alone.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SPACE = "▁"  # as SentencePiece spells U+0020
START = "\0"  # marks the part that a text begins with
MARKS = r"!-/:-@\[-`{-~"
BLANK = r" \t\n\r"
# What one table of Unicode or another calls white space, besides BLANK.
DISPUTED = r"\s\u180e\u200b-\u200d\u2060\ufeff"

# GPT-2's expression: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
# It goes from left to right and looks ahead within white space only, so parts between two of its borders give what
# the whole gives. Sure borders, as no alternative goes on across them:
#   an ASCII letter | any other ASCII character       an ASCII digit | any other ASCII character
#   ASCII marks but ' | an ASCII letter or digit      what is not white space | white space
# The Digits pre-tokenizer before it cuts by single characters and keeps all that.
BYTE_LEVEL = re.compile(
    rf" ?(?:[A-Za-z]++(?![^\x00-\x7f])|[0-9]++(?![^\x00-\x7f])|[!-&(-/:-@\[-`{{-~]++(?=[A-Za-z0-9{BLANK}]|\Z))"
    rf"|[{BLANK}]*+[^{BLANK}]++(?:(?<=[{DISPUTED}])[{BLANK}]++[^{BLANK}]*+)*|[{BLANK}]++"
)
# BERT drops white space and makes each ASCII mark a word. Both stand still under its normalizer, which else
# changes single characters or orders accents that follow each other, so nothing reaches across them.
BERT = re.compile(rf"[^{BLANK}{MARKS}]++|[{MARKS}]")
# A space is put in front of each part, as of the text, so each part leaves its first one out. Merges stay between
# two such borders when no piece of the vocabulary has a space behind another character.
PIECES = re.compile(r" ( *+[^ ]++(?: ++\Z)?| ++\Z)")
# A space between two parts of a coarse cut is a border where what is before it is certainly no white space.
SOLID = re.compile(rf"[^{DISPUTED}]\Z")


def _same(part: str) -> str:
    return part


def _always(part: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Cut:
    """One rule. Of a text that matches `barred`, or with a part that is not `certain`, it proves nothing.

    spell: the text that a part stands for.
    """

    split: Callable[[str], list[str]]
    barred: re.Pattern[str] | None
    spell: Callable[[str], str] = _same
    certain: Callable[[str], bool] = _always

    def parts(self, text: str) -> list[str] | None:
        """The parts of `text`; if all are certain, their ids in a row are its ids."""
        if self.barred is not None and self.barred.search(text):
            return None
        return self.split(text)


def of_document(document: Mapping[str, Any]) -> tuple[Cut, ...]:
    """The rules for a tokenizer.json, coarse to fine; none when its pipeline is none of those proved above."""
    added: list[dict[str, Any]] = document.get("added_tokens") or []
    spellings = [str(token["content"]) for token in added]
    model, normalizer, words = (document.get(key) or {} for key in ("model", "normalizer", "pre_tokenizer"))
    if _is_byte_level(words) and not normalizer and model.get("type") == "BPE" and not model.get("dropout"):
        coarse = Cut(_spaced, _any_of([*spellings, START]), _unspaced, _is_solid)
        return coarse, Cut(BYTE_LEVEL.findall, _any_of(spellings))
    bert = words.get("type") == "BertPreTokenizer" and normalizer.get("type") in ("BertNormalizer", None)
    if bert and model.get("type") == "WordPiece" and not any(token["normalized"] for token in added):
        return Cut(_at_spaces, _any_of(spellings)), Cut(BERT.findall, _any_of(spellings))
    return ()


def of_pieces(spellings: Iterable[str], controls: Iterable[str]) -> tuple[Cut, ...]:
    """The rules for SentencePiece BPE that puts one space in front and changes nothing else of a text.

    None is proved when a piece has a space behind another character, or the space is no piece.
    """
    known = list(spellings)
    if SPACE not in known or re.search(rf"[^\n{SPACE}]{SPACE}", "\n".join(known)):
        return ()
    barred = _any_of([*controls, SPACE])
    return Cut(_at_spaces, barred, certain=bool), Cut(_pieces, barred)


def _at_spaces(text: str) -> list[str]:
    return text.split(" ")


def _spaced(text: str) -> list[str]:
    return f"{START}{text}".split(" ")


def _unspaced(part: str) -> str:
    return part[1:] if part.startswith(START) else f" {part}"


def _is_solid(part: str) -> bool:
    return SOLID.search(part) is not None


def _pieces(text: str) -> list[str]:
    return PIECES.findall(f" {text}")


def _is_byte_level(words: Mapping[str, Any]) -> bool:
    steps = words.get("pretokenizers", [words])
    last = steps[-1] if steps else {}
    plain = last.get("type") == "ByteLevel" and last.get("use_regex", True) and not last.get("add_prefix_space")
    return bool(plain) and all(step.get("type") == "Digits" for step in steps[:-1])


def _any_of(spellings: Iterable[str]) -> re.Pattern[str] | None:
    found = "|".join(re.escape(spelling) for spelling in sorted(spellings))
    return re.compile(found) if found else None
