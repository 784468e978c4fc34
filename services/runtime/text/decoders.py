"""Reads the decoder of a tokenizer.json into a fold. Knows the library's decoders, not its tokenizers."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import tokenizers.decoders

from services.runtime.errors import PreconditionFailed
from services.runtime.text.byte_level import to_bytes
from services.runtime.text.folds import ByteFold, FallbackFold, Fold, WordFold, later_text

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
LLAMA_STYLE = re.compile(r"(Replace )*(ByteFallback )?Fuse( Strip)?")


class Decoding(NamedTuple):
    """How ids become text one at a time: a maker of fresh folds, and a token's bytes after another."""

    fold: Callable[[], Fold]
    token_bytes: Callable[[int], bytes]


def read(
    decoder: dict[str, Any] | None, library: tokenizers.decoders.Decoder | None, token: Callable[[int], str]
) -> Decoding:
    """The fold for `decoder` (its JSON); `library` is the same decoder built.

    Raises PreconditionFailed for a decoder that cannot be streamed exactly.
    """
    parts = [] if decoder is None else decoder.get("decoders", [decoder])
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"]:
        return _byte_level(token)
    if LLAMA_STYLE.fullmatch(" ".join(kinds)) and _strips_front_only(parts):
        return _llama_style(parts, token)
    if kinds in ([], ["WordPiece"], ["Metaspace"]):
        return _words(" ".join if library is None else library.decode, token)
    raise PreconditionFailed(f"tokenizer decoder {kinds} is not supported", reason="BAD_TOKENIZER")


def _byte_level(token: Callable[[int], str]) -> Decoding:
    def token_bytes(token_id: int) -> bytes:
        return to_bytes(token(token_id))

    return Decoding(lambda: ByteFold(token_bytes), token_bytes)


def _words(decode: Callable[[list[str]], str], token: Callable[[int], str]) -> Decoding:
    return Decoding(lambda: WordFold(token, decode), lambda token_id: later_text(decode, token(token_id)).encode())


def _llama_style(parts: list[dict[str, Any]], token: Callable[[int], str]) -> Decoding:
    swaps = [(part["pattern"]["String"], part["content"]) for part in parts if part["type"] == "Replace"]
    has_bytes = any(part["type"] == "ByteFallback" for part in parts)
    strip = sum(part["start"] for part in parts if part["type"] == "Strip")

    def piece(token_id: int) -> str | int:
        text = token(token_id)
        for old, new in swaps:
            text = text.replace(old, new)
        byte = BYTE_TOKEN.fullmatch(text) if has_bytes else None
        return int(byte[1], 16) if byte else text

    def token_bytes(token_id: int) -> bytes:
        part = piece(token_id)
        return part.encode() if isinstance(part, str) else bytes([part])

    return Decoding(lambda: FallbackFold(piece, strip), token_bytes)


def _strips_front_only(parts: list[dict[str, Any]]) -> bool:
    return all(part["content"] == " " and part["stop"] == 0 for part in parts if part["type"] == "Strip") and all(
        "String" in part["pattern"] for part in parts if part["type"] == "Replace"
    )
