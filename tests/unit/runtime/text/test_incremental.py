"""Streaming decode against whole decode, over any ids of every family."""

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.text.incremental import IncrementalDecoder
from services.runtime.text.tokenizer import Tokenizer
from tests.unit.runtime.text.made import all_families, piece_model

FAMILIES = sorted(all_families())


def streamed(tokenizer: Tokenizer, ids: list[int], skip: bool) -> list[str]:
    decoder = IncrementalDecoder(tokenizer, skip)
    return [*(decoder.push(token_id) for token_id in ids), decoder.flush()]


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_deltas_of_any_ids_concatenate_to_the_whole_decode(family: str, data: st.DataObject) -> None:
    tokenizer = all_families()[family]
    # Low ids are control and byte tokens in every family: half of the examples are made of them alone.
    top = data.draw(st.sampled_from([tokenizer.vocab_size, min(270, tokenizer.vocab_size)]))
    ids = data.draw(st.lists(st.integers(0, top - 1), max_size=24))
    skip = data.draw(st.booleans())
    assert "".join(streamed(tokenizer, ids, skip)) == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_a_fork_goes_its_own_way(family: str, data: st.DataObject) -> None:
    tokenizer = all_families()[family]
    top = data.draw(st.sampled_from([tokenizer.vocab_size, min(270, tokenizer.vocab_size)]))
    past, left, right = (data.draw(st.lists(st.integers(0, top - 1), max_size=8)) for _ in range(3))
    skip = data.draw(st.booleans())
    decoder = IncrementalDecoder(tokenizer, skip)
    begun = decoder.push_all(past)
    other = decoder.fork()
    texts = [begun + one.push_all(ids) for one, ids in ((decoder, left), (other, right))]
    texts = [text + one.flush() for one, text in zip((decoder, other), texts, strict=True)]
    assert texts == [tokenizer.decode(past + ids, skip) for ids in (left, right)]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(max_size=40))
def test_text_streams_without_a_replacement_character_of_its_own(family: str, text: str) -> None:
    tokenizer = all_families()[family]
    ids = tokenizer.encode_ids(text, parse_special=False)
    whole = tokenizer.decode(ids)
    assert "".join(streamed(tokenizer, ids, True)).count("\ufffd") == whole.count("\ufffd")
    if family in ("byte_level", "pieces_bpe"):
        assert whole == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@given(data=st.data())
def test_sentencepiece_decode_is_the_librarys(kind: str, data: st.DataObject) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=piece_model(kind))
    ids = data.draw(st.lists(st.integers(0, library.vocab_size() - 1), max_size=24))
    assert all_families()[f"pieces_{kind}"].decode(ids) == library.decode(ids)


def test_a_character_of_four_tokens_comes_whole_with_its_last_token() -> None:
    tokenizer = all_families()["byte_level"]
    ids = [tokenizer.token_id(token) for token in "ðŁ¦Ĭ"]
    assert streamed(tokenizer, ids, True) == ["", "", "", "🦊", ""]


def test_a_broken_character_is_replaced_as_soon_as_it_is_certain() -> None:
    tokenizer = all_families()["byte_level"]
    ids = [tokenizer.token_id(token) for token in "ðŁa"]
    assert streamed(tokenizer, ids, True) == ["", "", "\ufffda", ""]


def test_an_unfinished_character_comes_with_flush() -> None:
    tokenizer = all_families()["byte_level"]
    assert streamed(tokenizer, [tokenizer.token_id("ð")], True) == ["", "\ufffd"]


def test_special_tokens_are_left_out_or_spelt_out() -> None:
    tokenizer = all_families()["byte_level"]
    ids = tokenizer.encode_ids("<|im_start|>a<|im_end|>")
    assert "".join(streamed(tokenizer, ids, True)) == "a"
    assert "".join(streamed(tokenizer, ids, False)) == "<|im_start|>a<|im_end|>"
