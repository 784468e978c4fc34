"""Makes tokenizers out of files that are not tokenizer.json: GGUF metadata and tiktoken ranks.

Knows nothing of stores and downloads: importers call it and save what it returns.
"""

import base64
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text.byte_level import to_token
from services.runtime.text.gguf_pieces import from_pieces

# token_type values of GGUF that must survive as whole tokens (specification: control and user defined).
GGUF_CONTROL = 3
GGUF_USER_DEFINED = 4
# How the text is cut before merging, by `tokenizer.ggml.pre`: the expressions the models' makers published.
WORD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": WORD + r"\p{N}" + REST, "llama-bpe": WORD + r"\p{N}{1,3}" + REST}


def from_gguf(fields: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer held in GGUF metadata.

    `fields` maps a metadata key to its value, or to a reader field with `.contents()`.
    Byte-level BPE (`tokenizer.ggml.model` = `gpt2`) with a known pre-tokenizer and SentencePiece's BPE (`llama`)
    are understood; anything else raises InvalidInput naming the key.
    """
    kind = _value(fields, "tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise InvalidInput("tokenizer.ggml.model", f"{kind!r} cannot be converted; 'gpt2' and 'llama' can")
    tokens, types = (_value(fields, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    tokenizer = _merging(tokens, fields) if kind == "gpt2" else _scoring(tokens, types, fields)
    _begin(tokenizer, fields)
    tokenizer.add_special_tokens(_added(tokens, types, GGUF_CONTROL))
    tokenizer.add_tokens(_added(tokens, types, GGUF_USER_DEFINED))
    return tokenizer


def _merging(tokens: list[str], fields: Mapping[str, Any]) -> Tokenizer:
    """Qwen composes characters (NFC); Llama 3 takes a whole word that is a token as it is."""
    merges = [tuple(merge.split(" ", 1)) for merge in _value(fields, "tokenizer.ggml.merges")]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = _byte_level_bpe(vocab, merges, _pre_tokenizer(fields))
    name = _value(fields, "tokenizer.ggml.pre", "gpt-2")
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    if name == "llama-bpe":
        tokenizer.model.ignore_merges = True
    return tokenizer


def _scoring(tokens: list[str], types: list[int], fields: Mapping[str, Any]) -> Tokenizer:
    prefix_space = bool(_value(fields, "tokenizer.ggml.add_space_prefix", True))
    return from_pieces(tokens, _value(fields, "tokenizer.ggml.scores"), types, prefix_space=prefix_space)


def _begin(tokenizer: Tokenizer, fields: Mapping[str, Any]) -> None:
    """SentencePiece models and Llama 3 begin with BOS unless the file says otherwise, others if it says so."""
    names = (_value(fields, "tokenizer.ggml.model"), _value(fields, "tokenizer.ggml.pre", ""))
    usual = names[0] == "llama" or names[1] == "llama-bpe"
    if not _value(fields, "tokenizer.ggml.add_bos_token", usual):
        return
    first = int(_value(fields, "tokenizer.ggml.bos_token_id"))
    token = str(_value(fields, "tokenizer.ggml.tokens")[first])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[token, "$A"], pair=[token, "$A", f"{token}:1", "$B:1"], special_tokens=[(token, first)]
    )


def gguf_spec(fields: Mapping[str, Any]) -> TokenizerSpec:
    """The chat template and the named special tokens of the same metadata."""
    tokens = _value(fields, "tokenizer.ggml.tokens")
    architecture = _value(fields, "general.architecture", "")

    def named(key: str) -> str | None:
        index = _value(fields, f"tokenizer.ggml.{key}_token_id", None)
        return None if index is None else str(tokens[index])

    return TokenizerSpec(
        chat_template=_value(fields, "tokenizer.chat_template", None),
        bos_token=named("bos"),
        eos_token=named("eos"),
        pad_token=named("padding"),
        unk_token=named("unknown"),
        max_length_tokens=_value(fields, f"{architecture}.context_length", None),
    )


def from_tiktoken(ranks_path: Path, special_tokens: Mapping[str, int], pattern: str | None = None) -> Tokenizer:
    """A tiktoken ranks file (`base64 rank` a line) as byte-level BPE with the same ids.

    `pattern` is the splitting regex; None means GPT-2's.
    """
    ranks = _read_ranks(ranks_path)
    vocab = {to_token(token): rank for token, rank in ranks.items()}
    specials = {token: index for token, index in special_tokens.items() if token not in vocab}
    tokenizer = _byte_level_bpe(vocab | specials, _merges(ranks), _split(pattern))
    added = [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    tokenizer.add_special_tokens(added)
    return tokenizer


def _split(pattern: str | None) -> pre_tokenizers.PreTokenizer:
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    cut = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _value(fields: Mapping[str, Any], key: str, *default: Any) -> Any:
    if key not in fields:
        if default:
            return default[0]
        raise InvalidInput(key, "is missing from the GGUF metadata")
    field = fields[key]
    return field.contents() if hasattr(field, "contents") else field


def _pre_tokenizer(fields: Mapping[str, Any]) -> pre_tokenizers.PreTokenizer:
    """`smollm` cuts every digit off alone before the GPT-2 regex; `gpt-2` is the regex alone."""
    name = _value(fields, "tokenizer.ggml.pre", "gpt-2")
    prefix_space = bool(_value(fields, "tokenizer.ggml.add_space_prefix", False))
    words = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    if name == "gpt-2":
        return words
    if name in PATTERNS:
        return _split(PATTERNS[name])
    known = ", ".join(repr(one) for one in ("gpt-2", "smollm", *PATTERNS))
    raise InvalidInput("tokenizer.ggml.pre", f"{name!r} is not known; known: {known}")


def _byte_level_bpe(vocab: dict[str, int], merges: list[Any], split: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _added(tokens: list[str], types: list[int], wanted: int) -> list[AddedToken]:
    special = wanted == GGUF_CONTROL
    chosen = [token for token, kind in zip(tokens, types, strict=True) if kind == wanted]
    return [AddedToken(token, special=special, normalized=False) for token in chosen]


def _read_ranks(path: Path) -> dict[bytes, int]:
    lines = path.read_bytes().split(b"\n")
    pairs = [line.split(b" ") for line in lines if line]
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """The merge that makes each longer token: what BPE leaves of its bytes under the lower ranks alone.

    A token is made exactly when its rank is reached, so by then its bytes stand as two parts.
    """
    longer = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    halves = (_parts(token, ranks) for token in longer)
    return [(to_token(parts[0]), to_token(parts[1])) for parts in halves if len(parts) == 2]


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    limit = ranks[token]
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, limit) for left, right in itertools.pairwise(parts)]
        best = min(joined)
        if best >= limit:
            break
        at = joined.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
