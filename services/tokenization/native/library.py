"""The C face of `source/` by ctypes: models, and texts → ids with holes. Calls release the GIL."""

import ctypes
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple
from weakref import finalize

from services.runtime.compiled import FOLDER, Project
from services.tokenization.native.rules import ByteLevel, Numbers, Tokens, WordPiece

WORDS = Project(
    "maas-words",
    Path(__file__).parent / "source",
    ("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    {"words": ("words.cc", ())},
)
ID_BYTES = 4
HOLE_BYTES = 24
I64, POINTER = ctypes.c_int64, ctypes.c_void_p


class Hole(NamedTuple):
    """A part of a text whose ids belong before the id `at` of its row."""

    row: int
    at: int
    part: str


class _Vocabulary(ctypes.Structure):
    _fields_ = (
        *(("kinds", ctypes.c_char_p), ("kind_count", I64), ("letters", ctypes.c_char_p)),
        *(("sizes", POINTER), ("ids", POINTER), ("tokens", I64)),
    )


class _Answer(ctypes.Structure):
    _fields_ = (("ids", POINTER), ("holes", POINTER), ("hole_count", I64))


class Encoder:
    """One model; immutable, so any number of threads ask it."""

    def __init__(self, library: Path, rules: ByteLevel | WordPiece) -> None:
        self._library = _opened(library)
        self._model = POINTER(_made(self._library, rules))
        if not self._model:
            raise MemoryError("no memory for the words of a tokenizer")
        finalize(self, self._library.maas_model_end, self._model)

    def encode(self, texts: Sequence[str]) -> tuple[list[bytes], list[Hole]]:
        """Little-endian uint32 ids of each text without special tokens; what the holes stand for is missing."""
        coded = [text.encode() for text in texts]
        blob, ends = b"".join(coded), array("q", accumulate(map(len, coded)))
        told, answer = array("q", ends), _Answer()
        call = self._library.maas_encode
        try:
            if call(self._model, blob, address(ends), len(ends), address(told), ctypes.byref(answer)):
                raise MemoryError("no memory for the ids of the texts")
            return _rows(answer, told), _holes(answer, blob, ends, told)
        finally:
            self._library.maas_answer_end(ctypes.byref(answer))


def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.maas_byte_level.argtypes = [POINTER, POINTER, I64, POINTER, ctypes.c_int]
    library.maas_word_piece.argtypes = [POINTER, POINTER, ctypes.c_uint32, I64, ctypes.c_int]
    library.maas_byte_level.restype = library.maas_word_piece.restype = POINTER
    library.maas_encode.argtypes = [POINTER, POINTER, POINTER, I64, POINTER, POINTER]
    library.maas_model_end.argtypes = library.maas_answer_end.argtypes = [POINTER]
    library.maas_model_end.restype = library.maas_answer_end.restype = None
    return library


def _vocabulary(kinds: bytes, tokens: Tokens) -> _Vocabulary:
    numbers = address(tokens.sizes), address(tokens.ids), len(tokens.ids)
    return _Vocabulary(kinds, len(kinds), tokens.letters, *numbers)


def _made(library: ctypes.CDLL, rules: ByteLevel | WordPiece) -> int | None:
    vocabulary = ctypes.byref(_vocabulary(rules.kinds, rules.tokens))
    made: int | None
    if isinstance(rules, ByteLevel):
        merges, count = address(rules.merges), len(rules.merges) // 3
        made = library.maas_byte_level(vocabulary, merges, count, address(rules.bytes), rules.digits)
    else:
        made = library.maas_word_piece(vocabulary, rules.later, rules.unknown, rules.most, rules.lower)
    return made


def address(numbers: Numbers) -> int:
    """Where the numbers lie, as long as they do."""
    return numbers.buffer_info()[0]


def _rows(answer: _Answer, told: Numbers) -> list[bytes]:
    packed = ctypes.string_at(answer.ids, told[-1] * ID_BYTES) if told else b""
    return [packed[ID_BYTES * begin : ID_BYTES * end] for begin, end in pairwise([0, *told])]


def _holes(answer: _Answer, blob: bytes, ends: Numbers, told: Numbers) -> list[Hole]:
    numbers = array("q", ctypes.string_at(answer.holes, answer.hole_count * HOLE_BYTES))
    holes, row, first = [], 0, 0
    for at, begin, end in zip(*[iter(numbers)] * 3, strict=True):
        while end > ends[row]:
            first, row = told[row], row + 1
        holes.append(Hole(row, at - first, blob[begin:end].decode()))
    return holes


if __name__ == "__main__":
    print(WORDS.library(FOLDER.expanduser()))
