"""A tokenizer.json behind the Tokenizer protocol. Knows no proto and no model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text import cuts, decoders
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.folds import Fold, SkippingFold
from services.runtime.text.special import SpecialToken, SpecialTokens, named_id


class HuggingFaceTokenizer:
    """Two frozen backends over one vocabulary: one parses special tokens in text, one does not.

    The library keeps such options on the tokenizer, and changing them while another thread encodes
    raises "Already borrowed"; nothing is changed here after construction.
    """

    kind = "huggingface"

    def __init__(self, data: bytes, spec: TokenizerSpec, digest: str) -> None:
        """`data` is tokenizer.json; truncation and padding in it are dropped, being per request here."""
        self._parsing = tokenizers.Tokenizer.from_buffer(data)
        padding = self._parsing.padding or {}
        self._parsing.no_truncation()
        self._parsing.no_padding()
        self._literal = _literal(self._parsing)
        self._decoding = decoders.read(_state(self._parsing.decoder), self._parsing.decoder, self.token)
        self._special = SpecialTokens(_special_tokens(self._parsing))
        self.cuts = cuts.of_document(_pipeline(self._parsing))
        self.digest = digest
        self.special_ids = frozenset(self._special.by_text.values())
        self.vocab_size = 1 + max(self._parsing.get_vocab(with_added_tokens=True).values())
        self.bos_id = named_id(self.token_id, "bos", spec.bos_token)
        self.eos_id = named_id(self.token_id, "eos", spec.eos_token)
        self.pad_id = named_id(self.token_id, "pad", spec.pad_token or padding.get("pad_token"))
        self.unk_id = named_id(self.token_id, "unk", spec.unk_token or _own_unk(self._parsing.model, data))

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return self._special.by_text

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
    ) -> Encoded:
        backend = self._backend(parse_special)
        return _columns(backend.encode(text, pair, add_special_tokens=add_special_tokens))

    def encode_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[Encoded]:
        backend = self._backend(parse_special)
        return [_columns(e) for e in backend.encode_batch(inputs, add_special_tokens=add_special_tokens)]

    def encode_ids(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        return self.encode_ids_batch([text], add_special_tokens=add_special_tokens, parse_special=parse_special)[0]

    def encode_ids_batch(
        self, inputs: Sequence[Input], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[list[int]]:
        backend = self._backend(parse_special)
        return [e.ids for e in backend.encode_batch_fast(inputs, add_special_tokens=add_special_tokens)]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._parsing.decode(ids, skip_special_tokens=skip_special_tokens)

    def fold(self, skip_special_tokens: bool = True) -> Fold:
        fold = self._decoding.fold()
        return SkippingFold(fold, self.special_ids) if skip_special_tokens else fold

    def split_special(self, text: str) -> list[str | int]:
        return self._special.split(text)

    def token(self, token_id: int) -> str:
        return self._parsing.id_to_token(token_id) or ""

    def token_bytes(self, token_id: int) -> bytes:
        return self._decoding.token_bytes(token_id)

    def token_id(self, token: str) -> int | None:
        return self._parsing.token_to_id(token)

    def document(self) -> Mapping[str, Any]:
        found = _pipeline(self._parsing)
        return found | {"model": found["model"] | (_state(self._parsing.model) or {})}

    def _backend(self, parse_special: bool) -> tokenizers.Tokenizer:
        return self._parsing if parse_special else self._literal


def _literal(parsing: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same pipeline around the same vocabulary in memory, which takes special tokens for ordinary text."""
    made = tokenizers.Tokenizer(parsing.model)
    for step in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(parsing, step) is not None:
            setattr(made, step, getattr(parsing, step))
    # The library hands out ids in the order of adding, from a file too.
    for _, token in sorted(parsing.get_added_tokens_decoder().items()):
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    made.encode_special_tokens = True
    return made


def _pipeline(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """What decides where text is cut, spelt as in tokenizer.json."""
    added = backend.get_added_tokens_decoder().values()
    model = backend.model
    return {
        "added_tokens": [{"content": token.content, "normalized": token.normalized} for token in added],
        "normalizer": _state(backend.normalizer),
        "pre_tokenizer": _state(backend.pre_tokenizer),
        "model": {"type": type(model).__name__, "dropout": getattr(model, "dropout", None)},
    }


def _state(step: Any) -> dict[str, Any] | None:
    """The JSON of a step of the pipeline."""
    return None if step is None else json.loads(step.__getstate__())


def _own_unk(model: Any, data: bytes) -> str | None:
    """Unigram models name the unknown token by its place in a list of (token, score), which the library hides."""
    if not isinstance(model, tokenizers.models.Unigram):
        return getattr(model, "unk_token", None)
    document = json.loads(data)["model"]
    place = document.get("unk_id")
    return None if place is None else str(document["vocab"][place][0])


def _special_tokens(backend: tokenizers.Tokenizer) -> list[SpecialToken]:
    added = backend.get_added_tokens_decoder().items()
    return [SpecialToken(t.content, token_id, t.lstrip, t.rstrip) for token_id, t in added if t.special]


def _columns(encoding: tokenizers.Encoding) -> Encoded:
    return Encoded(
        ids=encoding.ids,
        tokens=encoding.tokens,
        offsets=encoding.offsets,
        type_ids=encoding.type_ids,
        special_mask=encoding.special_tokens_mask,
        attention_mask=encoding.attention_mask,
        word_ids=encoding.word_ids,
        sequence_ids=encoding.sequence_ids,
    )
