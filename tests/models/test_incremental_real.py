"""Every real tokenizer of the store, token by token: pieces join to the whole text, no character comes broken."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation.engine.stops import StopStrings, TextOutput
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from services.runtime.text.incremental import IncrementalDecoder
from services.runtime.text.tokenizer import Tokenizer

pytestmark = pytest.mark.models

NAMES = ["smollm2-135m-instruct", "gpt2-bpe", "mistral-spm", "minilm-l6-v2"]
EXACT = ["smollm2-135m-instruct", "gpt2-bpe"]  # byte level: what goes in comes out
HARD = [
    "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "e\u0301\u0323", "क्षि", "한국어", "日本語", "ﷺ", "\u200d", "\u2028", "\x00",
    "\ufeff", "𝔘𝔫𝔦", "a\u0300\u0316", "\u202eabc", "the ", " 12", "\n\n", "\t", "»", "\ufffd",
]  # fmt: skip
# SmolLM2's vocabulary lacks the bytes of some control characters and of the planes above, which have none at all.
ASSIGNED = st.characters(max_codepoint=0x3FFFF, exclude_categories=("Cs", "Cc"))
TEXT = st.text(ASSIGNED, max_size=30) | st.lists(st.sampled_from(HARD), max_size=8).map("".join)


@pytest.fixture(scope="module", params=NAMES)
def words(request: pytest.FixtureRequest, model_store: ModelStore) -> Tokenizer:
    return load(model_store, request.param)


@cache
def load(store: ModelStore, name: str) -> Tokenizer:
    manifest = store.resolve(name)
    return tokenizer.load(manifest, store.directory(manifest))


def pieces(words: Tokenizer, ids: list[int], skip: bool = True) -> list[str]:
    decoder = IncrementalDecoder(words, skip)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


def test_pieces_of_any_text_join_to_the_whole_without_a_broken_character(words: Tokenizer) -> None:
    @settings(deadline=None)
    @given(text=TEXT)
    def check(text: str) -> None:
        ids = words.encode_ids(text, parse_special=False)
        found, whole = pieces(words, ids), words.decode(ids)
        assert "".join(found) == whole
        assert "".join(found).count("\ufffd") <= text.count("\ufffd")
        assert all(piece.isprintable() or piece.encode() for piece in found)  # no lone surrogate

    check()


def test_pieces_of_any_ids_join_to_the_whole(words: Tokenizer) -> None:
    """Also of tokens that no text gives: halves of characters, bytes that begin none."""

    @settings(deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        top = data.draw(st.sampled_from([words.vocab_size, min(300, words.vocab_size)]))
        ids, skip = data.draw(st.lists(st.integers(0, top - 1), max_size=24)), data.draw(st.booleans())
        assert "".join(pieces(words, ids, skip)) == words.decode(ids, skip)

    check()


@pytest.mark.parametrize("name", EXACT)
def test_a_byte_level_text_comes_back_as_it_went_in(name: str, model_store: ModelStore) -> None:
    words = load(model_store, name)

    @settings(deadline=None)
    @given(text=TEXT)
    def check(text: str) -> None:
        assert "".join(pieces(words, words.encode_ids(text, parse_special=False))) == text

    check()


def test_a_stop_string_cuts_the_text_where_it_first_ends_however_it_is_cut(words: Tokenizer) -> None:
    @settings(deadline=None)
    @given(text=TEXT.filter(bool), data=st.data())
    def check(text: str, data: st.DataObject) -> None:
        ids = words.encode_ids(text, parse_special=False)
        whole = words.decode(ids)
        stops = data.draw(st.lists(st.text(alphabet=whole or "x", min_size=1, max_size=3), min_size=1, max_size=3))
        output, shown, match = TextOutput(IncrementalDecoder(words, True), StopStrings(stops)), "", None
        for step in [*(lambda token=token: output.push(token) for token in ids), output.flush]:
            more, match = step()
            shown += more
            if match:
                break
        ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
        assert (match is not None) == bool(ends)
        if match:
            assert shown + match == whole[: min(ends)]
        else:
            assert shown == whole

    check()
