"""Truncation and padding against the tokenizers library's own, set on a copy of the same tokenizer."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from services.runtime.errors import InvalidInput
from services.runtime.text.encoded import Encoded
from services.runtime.text.padding import Padding, pad
from services.runtime.text.truncation import Truncation, truncate, windows
from tests.unit.runtime.text.made import all_families, byte_level, word_piece

WORDS = st.lists(st.sampled_from(["the", "fox", "eating", "x", "bread", "2024"]), min_size=1, max_size=30)
TEXT = WORDS.map(" ".join)
SIDES = st.sampled_from(["left", "right"])


def library(family: str) -> Library:
    made = {"byte_level": byte_level, "word_piece": word_piece}[family]()
    copy = Library.from_str(made.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def rows(encoded: Encoded) -> tuple[object, ...]:
    columns = [list(column) for column in encoded.columns()[:7]]
    return (columns, [rows(window) for window in encoded.overflowing])


def library_rows(encoding: object) -> tuple[object, ...]:
    e = encoding
    columns = [e.ids, e.tokens, e.offsets, e.type_ids, e.special_tokens_mask, e.attention_mask, e.word_ids]
    # Windows of windows are the library's leftovers of merging; the flat list holds them all.
    return (columns, [(library_rows(window)[0], []) for window in e.overflowing])


@pytest.mark.parametrize("family", ["byte_level", "word_piece"])
@given(text=TEXT, size=st.integers(4, 20), stride=st.integers(0, 20), side=SIDES)
def test_single_texts_cut_as_the_library_cuts(family: str, text: str, size: int, stride: int, side: str) -> None:
    ours, theirs = all_families()[family], library(family)
    stride = min(stride, size - theirs.num_special_tokens_to_add(False) - 1)
    theirs.enable_truncation(size, stride=stride, direction=side)
    cut = truncate(ours.encode(text), Truncation(size, side, stride))
    assert rows(cut) == library_rows(theirs.encode(text))


@given(first=TEXT, second=TEXT, size=st.integers(5, 30), side=SIDES, data=st.data())
def test_pairs_cut_as_the_library_cuts(first: str, second: str, size: int, side: str, data: st.DataObject) -> None:
    ours, theirs = all_families()["word_piece"], library("word_piece")
    whole = ours.encode(first, second)
    lengths = [list(whole.sequence_ids).count(0), list(whole.sequence_ids).count(1)]
    stride = data.draw(st.integers(0, max(0, min(*lengths, (size - 3) // 2) - 1)))
    theirs.enable_truncation(size, stride=stride, direction=side)
    cut = truncate(whole, Truncation(size, side, stride), "pairs[0]")
    assert rows(cut) == library_rows(theirs.encode(first, second))


@given(first=TEXT, second=TEXT, size=st.integers(5, 40), cut=st.sampled_from(["only_first", "only_second"]))
def test_one_side_of_a_pair_is_cut_or_refused_as_the_library_does(
    first: str, second: str, size: int, cut: str
) -> None:
    ours, theirs = all_families()["word_piece"], library("word_piece")
    theirs.enable_truncation(size, strategy=cut)
    whole = ours.encode(first, second)
    try:
        expected = theirs.encode(first, second)
    except Exception:
        with pytest.raises(InvalidInput):
            truncate(whole, Truncation(size, strategy=cut))
        return
    kept = [list(expected.sequence_ids).count(0), list(expected.sequence_ids).count(1)]
    if 0 in kept:
        with pytest.raises(InvalidInput, match="raise max_tokens"):
            truncate(whole, Truncation(size, strategy=cut))
        return
    assert rows(truncate(whole, Truncation(size, strategy=cut))) == library_rows(expected)


def test_without_overflowing_only_the_first_window_is_made() -> None:
    whole = all_families()["word_piece"].encode("the fox eating bread the fox")
    cut = truncate(whole, Truncation(5, overflowing=False))
    assert cut.ids == truncate(whole, Truncation(5)).ids
    assert cut.overflowing == ()


@pytest.mark.parametrize(
    ("rule", "field", "says"),
    [
        (Truncation(2), "truncation.max_tokens", "at least 3"),
        (Truncation(5, stride=3), "truncation.stride", "less than the 3"),
    ],
)
def test_impossible_rules_name_field_limit_and_fix(rule: Truncation, field: str, says: str) -> None:
    whole = all_families()["word_piece"].encode("the fox eating bread")
    with pytest.raises(InvalidInput, match=says) as error:
        truncate(whole, rule)
    assert error.value.violations[0].field == field


@given(
    first=TEXT,
    second=st.none() | TEXT,
    size=st.integers(4, 30),
    stride=st.integers(0, 5),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
    overflowing=st.booleans(),
)
def test_windows_are_told_before_they_are_made(
    first: str, second: str | None, size: int, stride: int, strategy: str, overflowing: bool
) -> None:
    whole = all_families()["word_piece"].encode(first, second)
    lengths = [list(whole.sequence_ids).count(place) for place in (0, 1, None)]
    rule = Truncation(size, "right", stride, strategy, overflowing)
    try:
        cut = truncate(whole, rule)
    except InvalidInput as error:
        with pytest.raises(InvalidInput, match=re.escape(str(error))):
            windows(*lengths, rule, "texts[0]")
        return
    assert windows(*lengths, rule, "texts[0]") == (1 + len(cut.overflowing), len(cut))
    assert all(len(window) <= len(cut) for window in cut.overflowing)


@given(texts=st.lists(TEXT, min_size=1, max_size=4), side=SIDES, multiple=st.integers(1, 9))
def test_padding_is_the_librarys(texts: list[str], side: str, multiple: int) -> None:
    ours, theirs = all_families()["word_piece"], library("word_piece")
    theirs.enable_padding(direction=side, pad_id=0, pad_token="[PAD]", pad_to_multiple_of=multiple)
    padded = pad(ours.encode_batch(texts), Padding("multiple", 0, "[PAD]", multiple, side))
    assert [rows(each) for each in padded] == [library_rows(each) for each in theirs.encode_batch(texts)]


def test_padding_to_a_length_fills_windows_too_and_cuts_nothing() -> None:
    ours = all_families()["word_piece"]
    cut = truncate(ours.encode("the fox eating bread the fox"), Truncation(6))
    short, long = pad([cut, ours.encode("the " * 20)], Padding("max", 0, "[PAD]", 10))
    assert {len(short), *map(len, short.overflowing)} == {10}
    assert len(long) == 22
    assert list(short.attention_mask) == [1] * 6 + [0] * 4
