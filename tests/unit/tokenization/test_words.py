"""Packed ids are the tokenizer's own, with the memo and without it."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.compiled import FOLDER
from services.runtime.text.encoded import Input
from services.tokenization.words import Words
from tests.unit.runtime.text.hostile import hostile_texts
from tests.unit.runtime.text.made import all_families

FAMILIES = sorted(all_families())
REMEMBERING = {family: Words(tokenizer, 1 << 20) for family, tokenizer in all_families().items()}
NATIVE = {family: Words(tokenizer, 1 << 20, FOLDER) for family, tokenizer in all_families().items()}


@pytest.mark.parametrize("family", FAMILIES)
@given(texts=st.lists(hostile_texts, max_size=4), add=st.booleans())
def test_ids_are_the_tokenizers(family: str, texts: list[str], add: bool) -> None:
    tokenizer = all_families()[family]
    expected = tokenizer.encode_ids_batch(texts, add_special_tokens=add)
    for words in (REMEMBERING[family], NATIVE[family], Words(tokenizer)):
        assert [list(array("I", row)) for row in words.packed(texts, add)] == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("add", [True, False])
def test_pairs_are_encoded_together(family: str, add: bool) -> None:
    pairs: list[Input] = [("the fox", "a dog"), ("", "the")]
    expected = all_families()[family].encode_ids_batch(pairs, add_special_tokens=add)
    assert [list(array("I", row)) for row in REMEMBERING[family].packed(pairs, add)] == expected
