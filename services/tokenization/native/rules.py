"""A tokenizer.json → the tables of a native model, or nothing where a step of it is another. Knows no library."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from services.runtime.text.byte_level import BYTE_TO_CHAR, CHAR_TO_BYTE
from services.tokenization.native import kinds

Numbers: TypeAlias = "array[int]"
READ = "".join(kinds.ASCII).encode()  # bytes that every vocabulary must have
CHAR_TO_LATIN = str.maketrans({char: chr(byte) for char, byte in CHAR_TO_BYTE.items()})
LONGEST_CHARACTER = 4  # bytes
OTHERS = (
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "ignore_merges",
    "unk_token",
    "byte_fallback",
    "dropout",
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Spellings one behind the other, the bytes of each, its id (uint32)."""

    letters: bytes
    sizes: Numbers
    ids: Numbers


@dataclass(frozen=True, slots=True)
class ByteLevel:
    """Byte-level BPE. kinds: of each code point. merges: uint32 left, right, made, by rank. bytes: ids of all 256.

    digits: 0 = as GPT-2's expression has them, 1 = runs apart from all else, 2 = each apart.
    """

    kinds: bytes
    tokens: Tokens
    merges: Numbers
    bytes: Numbers
    digits: int


@dataclass(frozen=True, slots=True)
class WordPiece:
    """Greedy longest match. later: of each token, 1 if it goes on with a word (its prefix is left out).

    most: characters of a word that is not unknown.
    """

    kinds: bytes
    tokens: Tokens
    later: bytes
    unknown: int
    most: int
    lower: bool


def of_document(document: Mapping[str, Any]) -> ByteLevel | WordPiece | None:
    """The tables of a tokenizer.json whose pipeline `cuts.of_document` has a rule for; None without."""
    model = document.get("model", {})
    if model.get("type") == "BPE":
        return _byte_level(document, model)
    return _word_piece(document, model) if model.get("type") == "WordPiece" else None


def _byte_level(document: Mapping[str, Any], model: Mapping[str, Any]) -> ByteLevel | None:
    vocab: dict[str, int] = model["vocab"]
    known = frozenset(byte for byte, char in BYTE_TO_CHAR.items() if char in vocab)
    if any(model.get(key) for key in OTHERS) or not known.issuperset(READ):
        return None
    pairs = (pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"])
    merges = array("I", chain.from_iterable((vocab[a], vocab[b], vocab[a + b]) for a, b in pairs))
    # A spelling out of the alphabet comes out wrong, and is left out there: its bytes do not give its id.
    letters = "".join(vocab).translate(CHAR_TO_LATIN).encode("latin-1", "replace")
    tokens = Tokens(letters, array("I", map(len, vocab)), array("I", vocab.values()))
    singles = array("I", [vocab.get(BYTE_TO_CHAR[byte], 0) for byte in range(256)])
    return ByteLevel(kinds.byte_level(known), tokens, merges, singles, _digits(document["pre_tokenizer"]))


def _digits(words: Mapping[str, Any]) -> int:
    steps = words.get("pretokenizers", [words])[:-1]
    return max((2 if step.get("individual_digits") else 1 for step in steps), default=0)


def _word_piece(document: Mapping[str, Any], model: Mapping[str, Any]) -> WordPiece | None:
    vocab: dict[str, int] = model["vocab"]
    prefix, unknown = model["continuing_subword_prefix"], vocab.get(model["unk_token"])
    if unknown is None or not prefix or model["max_input_chars_per_word"] < LONGEST_CHARACTER:
        return None
    later = {token.removeprefix(prefix): vocab[token] for token in vocab if token.startswith(prefix)}
    coded = list(map(str.encode, [*vocab, *later]))
    ids = array("I", [*vocab.values(), *later.values()])
    tokens = Tokens(b"".join(coded), array("I", map(len, coded)), ids)
    normalizer, most = document["normalizer"] or {}, model["max_input_chars_per_word"]
    known = kinds.bert(ideographs=bool(normalizer.get("handle_chinese_chars")))
    flags = bytes(len(vocab)) + b"\1" * len(later)
    return WordPiece(known, tokens, flags, unknown, most, bool(normalizer.get("lowercase")))
