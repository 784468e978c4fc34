"""A tokenizer.json → the tables of a native model, or nothing where a step of it is another. Knows no library."""

import ctypes
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from services.runtime.text.byte_level import BYTE_TO_CHAR, CHAR_TO_BYTE

READ = b"\t\n\r" + bytes(range(0x20, 0x7F))  # the bytes that the library looks at
Numbers: TypeAlias = "array[int]"
ABSENT = (
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

    @property
    def arguments(self) -> tuple[bytes, int, int, int]:
        return self.letters, address(self.sizes), address(self.ids), len(self.ids)


@dataclass(frozen=True, slots=True)
class ByteLevel:
    """Byte-level BPE. merges: uint32 left, right, made, by rank. digits: 0 = as GPT-2's expression has them,
    1 = runs apart from all else, 2 = each apart."""

    tokens: Tokens
    merges: Numbers
    bytes: Numbers
    digits: int

    def make(self, library: ctypes.CDLL) -> int | None:
        """The model's address; None without memory."""
        merges = address(self.merges), len(self.merges) // 3
        made: int | None = library.maas_byte_level(
            *self.tokens.arguments, *merges, address(self.bytes), self.digits
        )
        return made


@dataclass(frozen=True, slots=True)
class WordPiece:
    """Greedy longest match. later: of each token, 1 if it goes on with a word (its prefix is left out).

    most: characters of a word that is not unknown.
    """

    tokens: Tokens
    later: bytes
    unknown: int
    most: int
    lower: bool

    def make(self, library: ctypes.CDLL) -> int | None:
        """The model's address; None without memory."""
        made: int | None = library.maas_word_piece(
            *self.tokens.arguments, self.later, self.unknown, self.most, self.lower
        )
        return made


def of_document(document: Mapping[str, Any]) -> ByteLevel | WordPiece | None:
    """The tables of a tokenizer.json whose pipeline `cuts.of_document` has a rule for; None without."""
    model = document.get("model", {})
    makers = {"BPE": _byte_level, "WordPiece": _word_piece}
    return makers[model["type"]](document, model) if model.get("type") in makers else None


def _byte_level(document: Mapping[str, Any], model: Mapping[str, Any]) -> ByteLevel | None:
    vocab: dict[str, int] = model["vocab"]
    if any(model.get(key) for key in ABSENT) or not all(BYTE_TO_CHAR[byte] in vocab for byte in READ):
        return None
    merges = (pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"])
    numbers = array("I")
    for left, right in merges:
        numbers.extend((vocab[left], vocab[right], vocab[left + right]))
    own = {token: vocab[token] for token in vocab if CHAR_TO_BYTE.keys() >= set(token)}
    alphabet = str.maketrans({char: chr(byte) for char, byte in CHAR_TO_BYTE.items()})
    tokens = _tokens(list(own), list(own.values()), lambda text: text.translate(alphabet).encode("latin-1"))
    singles = array("I", [vocab.get(BYTE_TO_CHAR[byte], 0) for byte in range(256)])
    return ByteLevel(tokens, numbers, singles, _digits(document["pre_tokenizer"]))


def _digits(words: Mapping[str, Any]) -> int:
    steps = words.get("pretokenizers", [words])[:-1]
    return max((2 if step.get("individual_digits") else 1 for step in steps), default=0)


def _word_piece(document: Mapping[str, Any], model: Mapping[str, Any]) -> WordPiece | None:
    vocab: dict[str, int] = model["vocab"]
    prefix, unknown = model["continuing_subword_prefix"], vocab.get(model["unk_token"])
    if unknown is None or not prefix:
        return None
    later = {token.removeprefix(prefix): vocab[token] for token in vocab if token.startswith(prefix)}
    spellings, ids = [*vocab, *later], [*vocab.values(), *later.values()]
    flags = bytes(len(vocab)) + b"\1" * len(later)
    lower = bool((document["normalizer"] or {}).get("lowercase"))
    return WordPiece(_tokens(spellings, ids, str.encode), flags, unknown, model["max_input_chars_per_word"], lower)


def _tokens(spellings: Sequence[str], ids: Sequence[int], encode: Callable[[str], bytes]) -> Tokens:
    coded = list(map(encode, spellings))
    return Tokens(b"".join(coded), array("I", map(len, coded)), array("I", ids))


def address(numbers: Numbers) -> int:
    """Where the numbers lie, as long as they do."""
    return numbers.buffer_info()[0]
