"""The tokenizers that GGUF files hold cut text as the reference library's do."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from services.runtime.text import build
from tests.unit.runtime.text.made import byte_level
from tests.unit.runtime.text.test_build import fields

PIECES = ["I'LL ", "don't", "2024", "\r\n", " \n x", "e\u0301", "日本", "the quick"]
WORDS = st.text(max_size=30) | st.lists(st.sampled_from(PIECES)).map("".join)


def cut(pattern: str) -> Any:
    """A library's own cutting of a text, byte by byte afterwards."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
@given(text=WORDS)
def test_the_tokenizers_of_qwen_and_llama_3_cut_words_as_theirs_do(pre: str, text: str) -> None:
    pattern = inspect.signature(TikTokenConverter).parameters["pattern"].default
    expected = Library.from_str(byte_level().to_str())
    expected.pre_tokenizer = cut(PRETOKENIZE_REGEX if pre == "qwen2" else pattern)
    if pre == "qwen2":
        expected.normalizer = normalizers.NFC()
    rebuilt = build.from_gguf(fields(pre) | {"tokenizer.ggml.add_bos_token": False})
    expected.model.ignore_merges = pre == "llama-bpe"
    assert rebuilt.encode(text).ids == expected.encode(text).ids


def test_llama_3_begins_with_bos_unless_the_file_says_otherwise() -> None:
    told = fields("llama-bpe") | {"tokenizer.ggml.bos_token_id": 0}
    plain = build.from_gguf(told | {"tokenizer.ggml.add_bos_token": False}).encode("the fox").ids
    assert build.from_gguf(told).encode("the fox").ids == [0, *plain]
    assert build.from_gguf(told).encode("the fox", add_special_tokens=False).ids == plain
    assert build.from_gguf(fields("qwen2")).encode("the fox").ids == plain
