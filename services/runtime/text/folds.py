"""Decoding as a fold: one token id in, the text that is now certain out. One class for each family of
decoders; each gives, over any ids, exactly what decoding them at once gives."""

import codecs
from collections.abc import Callable
from copy import copy
from typing import Literal, NamedTuple, Protocol, Self

REPLACEMENT = "\ufffd"


class Fold(Protocol):
    """Text so far is the concatenation of what `push` and finally `flush` returned."""

    def push(self, token_id: int) -> str:
        """The text this token makes certain; may be empty."""
        ...

    def flush(self) -> str:
        """What was held back. Nothing may be pushed after it."""
        ...

    def fork(self) -> Self:
        """Another in the same state, which goes its own way from here."""
        ...


class SkippingFold:
    """Another fold that never sees the ids in `skipped`."""

    def __init__(self, fold: Fold, skipped: frozenset[int]) -> None:
        self._fold = fold
        self._skipped = skipped

    def push(self, token_id: int) -> str:
        return "" if token_id in self._skipped else self._fold.push(token_id)

    def flush(self) -> str:
        return self._fold.flush()

    def fork(self) -> "SkippingFold":
        return SkippingFold(self._fold.fork(), self._skipped)


class ByteFold:
    """Byte-level BPE: tokens are bytes, the text is their UTF-8 with U+FFFD for what is not."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._token_bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)

    def fork(self) -> "ByteFold":
        other = ByteFold(self._token_bytes)
        other._utf8.setstate(self._utf8.getstate())
        return other


class WordFold:
    """WordPiece, Metaspace and no decoder: a token's text depends only on whether it is the first."""

    def __init__(self, token: Callable[[int], str], decode: Callable[[list[str]], str]) -> None:
        self._token = token
        self._decode = decode
        self._first = True

    def push(self, token_id: int) -> str:
        token = self._token(token_id)
        if not token:
            return ""
        text = self._decode([token]) if self._first else later_text(self._decode, token)
        self._first = False
        return text

    def flush(self) -> str:
        return ""

    def fork(self) -> "WordFold":
        return copy(self)


def later_text(decode: Callable[[list[str]], str], token: str) -> str:
    """What `token` adds when another one stands before it."""
    return decode(["a", token])[1:]


class FallbackFold:
    """Llama-style `tokenizers` decoder: replace, byte fallback, fuse, strip `strip` leading spaces.

    A run of byte tokens is UTF-8 as a whole or U+FFFD for each byte, so it is held until it ends.
    """

    def __init__(self, piece: Callable[[int], str | int], strip: int) -> None:
        self._piece = piece
        self._strip = strip
        self._run = bytearray()

    def push(self, token_id: int) -> str:
        piece = self._piece(token_id)
        if isinstance(piece, str):
            return self._stripped(self._end_run() + piece)
        self._run.append(piece)
        return ""

    def flush(self) -> str:
        return self._stripped(self._end_run())

    def fork(self) -> "FallbackFold":
        other = copy(self)
        other._run = self._run.copy()
        return other

    def _end_run(self) -> str:
        run, self._run = bytes(self._run), bytearray()
        try:
            return run.decode()
        except UnicodeDecodeError:
            return REPLACEMENT * len(run)

    def _stripped(self, text: str) -> str:
        spaces = len(text) - len(text.lstrip(" "))
        kept = text[min(spaces, self._strip) :]
        self._strip = 0 if kept else self._strip - len(text)
        return kept


class Piece(NamedTuple):
    """One SentencePiece token: its byte, or its text and whether an opening space is dropped from it."""

    text: str = ""
    byte: int | None = None
    droppable: bool = False


class PieceFold:
    """SentencePiece: bytes read character by character; the space that encoding put in front is dropped.

    `opening` is how often: `once`, or `empty` (again and again while there is no text), or `never`.
    """

    def __init__(self, piece: Callable[[int], Piece], opening: Literal["once", "empty", "never"]) -> None:
        self._piece = piece
        self._opening = opening
        self._characters = Characters()

    def push(self, token_id: int) -> str:
        piece = self._piece(token_id)
        if piece.byte is not None:
            return self._seen(self._characters.push(piece.byte))
        return self._seen(self._characters.end()) + self._opened(piece)

    def flush(self) -> str:
        return self._characters.end()

    def fork(self) -> "PieceFold":
        other = copy(self)
        other._characters = self._characters.fork()
        return other

    def _opened(self, piece: Piece) -> str:
        if not piece.droppable or self._opening == "never" or not piece.text.startswith(" "):
            return self._seen(piece.text)
        if self._opening == "once":
            self._opening = "never"
        return self._seen(piece.text[1:])

    def _seen(self, text: str) -> str:
        if text:
            self._opening = "never"
        return text


class Characters:
    """A run of bytes as UTF-8; a byte that starts no character is one U+FFFD."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("strict")

    def push(self, byte: int) -> str:
        self._pending.append(byte)
        try:
            character = self._utf8.decode(bytes([byte]))
        except UnicodeDecodeError:
            return self._reject_first()
        if character:
            self._pending.clear()
        return character

    def fork(self) -> "Characters":
        other = Characters()
        other._pending = self._pending.copy()
        other._utf8.setstate(self._utf8.getstate())
        return other

    def end(self) -> str:
        text = REPLACEMENT * len(self._pending)
        self._reset()
        return text

    def _reject_first(self) -> str:
        rest = bytes(self._pending[1:])
        self._reset()
        return REPLACEMENT + "".join(self.push(byte) for byte in rest)

    def _reset(self) -> None:
        self._pending.clear()
        self._utf8.reset()
