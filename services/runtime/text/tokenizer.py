"""The tokenizer that every service talks to, and how one is loaded. Knows no model and no proto."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.manifest import Manifest, TokenizerSpec
from services.runtime.text import huggingface, sentencepiece
from services.runtime.text.cuts import Cut
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.folds import Fold


class Tokenizer(Protocol):
    """Immutable and safe to share between threads: options are arguments, never state.

    `parse_special`: the spelling of a special token in the text becomes that token (as the `tokenizers`
    library does); False makes it ordinary text. `add_special_tokens`: what the model wants around a text.
    """

    @property
    def kind(self) -> str:
        """`huggingface` or `sentencepiece`."""
        ...

    @property
    def digest(self) -> str:
        """`sha256:…` over the tokenizer's file and its spec: equal digests give equal ids."""
        ...

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def pad_id(self) -> int | None: ...

    @property
    def unk_id(self) -> int | None: ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Control tokens by their spelling."""
        ...

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where a text may be cut for `encode_ids` (specials parsed), coarse to fine; () = nothing is proved."""
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that `skip_special_tokens` leaves out."""
        ...

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
    ) -> Encoded:
        """All columns of one text or pair."""
        ...

    def encode_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[Encoded]:
        """`encode` of each input, in order."""
        ...

    def encode_ids(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """The ids alone: cheaper than `encode`."""
        ...

    def encode_ids_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[list[int]]:
        """The ids alone of each input, in order."""
        ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; ids outside the vocabulary add nothing (see `require_ids`)."""
        ...

    def fold(self, skip_special_tokens: bool = True) -> Fold:
        """A fresh state for decoding one stream; `incremental.IncrementalDecoder` drives it."""
        ...

    def split_special(self, text: str) -> list[str | int]:
        """`text` cut at the special tokens spelt in it: pieces of text, and ids."""
        ...

    def document(self) -> Mapping[str, Any]:
        """Pipeline and model as tokenizer.json spells them, made anew by each call; {} for SentencePiece."""
        ...

    def token(self, token_id: int) -> str:
        """The vocabulary's spelling of an id; empty for an id that it does not have."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes a token adds when another one stands before it."""
        ...

    def token_id(self, token: str) -> int | None:
        """The id of a spelling, or None."""
        ...


def load(manifest: Manifest, directory: Path) -> Tokenizer:
    """The tokenizer of a model version whose files lie in `directory`.

    Raises PreconditionFailed if the manifest names none, or a token that its vocabulary lacks.
    """
    spec = manifest.tokenizer
    if spec is None:
        raise PreconditionFailed(f"model {manifest.name!r} has no tokenizer", reason="NO_TOKENIZER")
    data = (directory / spec.file).read_bytes()
    digest = tokenizer_digest(data, spec)
    if spec.kind == "sentencepiece":
        return sentencepiece.SentencePieceTokenizer(data, spec, digest)
    return huggingface.HuggingFaceTokenizer(data, spec, digest)


def tokenizer_digest(data: bytes, spec: TokenizerSpec) -> str:
    """sha256 over the file's bytes and the canonical spec, as `sha256:<hex>`."""
    inner = hashlib.sha256(data).hexdigest() + spec.model_dump_json()
    return "sha256:" + hashlib.sha256(inner.encode()).hexdigest()


def require_digest(given: str, tokenizer: Tokenizer, field: str) -> None:
    """Raises PreconditionFailed when ids made by the tokenizer `given` are meant for another; "" = not said."""
    if given and given != tokenizer.digest:
        raise PreconditionFailed(
            f"{field}: the ids were made by tokenizer {given}, this model reads {tokenizer.digest}; "
            "tokenize again with this model",
            reason="TOKENIZER_MISMATCH",
        )


def require_ids(ids: Sequence[int], vocab_size: int, field: str = "ids") -> None:
    """Raises InvalidInput naming the first of `ids` that is outside the vocabulary."""
    if not ids or (max(ids) < vocab_size and min(ids) >= 0):
        return
    at = next(index for index, token_id in enumerate(ids) if not 0 <= token_id < vocab_size)
    raise InvalidInput(f"{field}[{at}]", f"{ids[at]} is outside the vocabulary; ids go from 0 to {vocab_size - 1}")
