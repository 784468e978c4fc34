"""Tokenizers rebuilt from GGUF metadata and tiktoken ranks give the ids of the one they came from."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers

from services.runtime.errors import InvalidInput
from services.runtime.text import build
from services.runtime.text.byte_level import BYTE_TO_CHAR, to_bytes, to_token
from tests.unit.runtime.text.made import byte_level

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = st.text(max_size=40) | st.lists(st.sampled_from([*CONTROL, "the ", "12", "🙂"])).map("".join)


class Field:
    """A reader's field, as the gguf package hands it out."""

    def __init__(self, value: object) -> None:
        self._value = value

    def contents(self) -> object:
        return self._value


def fields(pre: str = "gpt-2") -> dict[str, Any]:
    vocab = byte_level().get_vocab()
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = json.loads(byte_level().to_str())["model"]["merges"]
    return {
        "general.architecture": Field("llama"),
        "llama.context_length": Field(8192),
        "tokenizer.ggml.model": Field("gpt2"),
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": Field(tokens),
        "tokenizer.ggml.merges": Field([" ".join(pair) for pair in merges]),
        "tokenizer.ggml.token_type": Field([3 if token in CONTROL else 1 for token in tokens]),
        "tokenizer.ggml.eos_token_id": Field(2),
        "tokenizer.ggml.padding_token_id": Field(0),
        "tokenizer.chat_template": "{{ messages }}",
    }


@given(text=TEXT)
def test_gguf_metadata_gives_the_same_ids(text: str) -> None:
    rebuilt = build.from_gguf(fields())
    assert rebuilt.encode(text).ids == byte_level().encode(text).ids
    assert rebuilt.decode(rebuilt.encode(text).ids, skip_special_tokens=False) == text


def test_smollm_cuts_digits_alone() -> None:
    split = build.from_gguf(fields("smollm")).encode("in 2024")
    assert [t for t in split.tokens if t[-1].isdigit()] == ["2", "0", "2", "4"]


def test_gguf_spec_carries_template_limits_and_named_tokens() -> None:
    spec = build.gguf_spec(fields())
    assert (spec.eos_token, spec.pad_token, spec.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert (spec.max_length_tokens, spec.chat_template) == (8192, "{{ messages }}")


@pytest.mark.parametrize(
    ("key", "value"), [("tokenizer.ggml.model", "bert"), ("tokenizer.ggml.pre", "unheard-of")]
)
def test_gguf_that_is_not_understood_names_the_key(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as error:
        build.from_gguf(fields() | {key: value})
    assert error.value.violations[0].field == key


def test_gguf_without_a_vocabulary_names_the_missing_key() -> None:
    found = fields()
    del found["tokenizer.ggml.merges"]
    with pytest.raises(InvalidInput, match=r"tokenizer.ggml.merges: is missing"):
        build.from_gguf(found)


def ranks_file(directory: Path) -> tuple[Path, dict[str, int]]:
    """The byte-level vocabulary as a ranks file: ranks are ids, control tokens left out."""
    vocab = byte_level().get_vocab()
    lines = [
        base64.b64encode(to_bytes(token)).decode() + f" {rank}"
        for token, rank in sorted(vocab.items(), key=lambda item: item[1])
        if token not in CONTROL
    ]
    path = directory / "made.tiktoken"
    path.write_text("\n".join(lines) + "\n")
    return path, {token: vocab[token] for token in CONTROL}


def test_tiktoken_ranks_give_the_same_ids_as_the_merges(tmp_path: Path) -> None:
    path, control = ranks_file(tmp_path)
    rebuilt = build.from_tiktoken(path, control)

    @given(text=TEXT)
    def check(text: str) -> None:
        assert rebuilt.encode(text).ids == byte_level().encode(text).ids

    check()


def test_a_pattern_of_its_own_replaces_gpt2s(tmp_path: Path) -> None:
    path, control = ranks_file(tmp_path)
    rebuilt = build.from_tiktoken(path, control, pattern=r".")
    assert len(rebuilt.encode("the quick").ids) == 9


def test_a_built_tokenizer_survives_its_file() -> None:
    rebuilt = build.from_gguf(fields("smollm"))
    copy = Library.from_str(rebuilt.to_str())
    assert copy.encode("in <|im_end|> 2024").ids == rebuilt.encode("in <|im_end|> 2024").ids


def test_the_byte_alphabet_is_the_librarys_and_reversible() -> None:
    assert set(BYTE_TO_CHAR.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert to_bytes(to_token(bytes(range(256)))) == bytes(range(256))
    assert to_bytes("<tool call>") == b"<tool call>"
