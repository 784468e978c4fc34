"""The word memo: the library's ids whatever happens, within its bytes, and out of the way when it does not pay."""

import random
import re
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.text.cuts import Cut
from services.tokenization import memo
from services.tokenization.memo import ENTRY_BYTES, LONGEST, WordMemo

TEXT = "the quick brown fox jumps over the lazy dog and the dog sleeps"


UNCUT = re.compile("!")
CUT = Cut(str.split, UNCUT, spell="<{}>".format, certain=lambda word: not word.endswith("?"))


class Library:
    """Ids of a text: the code points of its words; a word by itself comes in brackets. Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        self.asked += texts
        return ["".join(text.strip("<>").split()).encode("utf-32-le") for text in texts]


def noise(seed: int, words: int = 40) -> str:
    letters = random.Random(seed)
    return " ".join("".join(letters.choices(string.ascii_letters, k=6)) for _ in range(words))


@given(
    st.lists(st.lists(st.text("ab c!?", max_size=6), max_size=40), max_size=4),
    st.sampled_from([0, 400, 2000, 1 << 20]),
    st.sampled_from([1, 2, 1000]),
)
def test_ids_are_the_librarys_whatever_is_remembered(calls: list[list[str]], most: int, sampled: int) -> None:
    tested = WordMemo(CUT, Library(), most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memo, "SAMPLED", sampled)
        for texts in calls:
            assert tested.rows(texts) == Library()(texts)


def test_what_is_known_is_not_asked_for_again() -> None:
    library = Library()
    tested = WordMemo(CUT, library, 1 << 20)
    tested.rows([TEXT, TEXT])
    assert sorted(library.asked) == sorted(f"<{word}>" for word in set(TEXT.split()))
    tested.rows(["the lazy fox", "dog"])
    assert len(library.asked) == len(set(TEXT.split()))


def test_a_text_that_must_not_be_cut_goes_to_the_library_whole() -> None:
    library = Library()
    tested = WordMemo(CUT, library, 1 << 20)
    texts = ["the fox!", "the fox? runs", TEXT]
    assert tested.rows(texts) == Library()(texts)
    assert library.asked[-2:] == texts[:2]


def test_both_generations_together_keep_to_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "SAMPLED", 1)
    most = 100_000
    tested = WordMemo(CUT, Library(), most)
    for seed in range(100):
        tested.rows([noise(seed)])
        held = [*tested._young.items(), *tested._old.items()]
        size = sum(len(word) + len(ids) + ENTRY_BYTES for word, ids in held)
        assert size < most + 40 * 300
    assert size > most / 4


def test_words_in_use_outlive_the_old_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "SAMPLED", 1)
    library = Library()
    tested = WordMemo(CUT, library, 60_000)
    tested.rows([TEXT])
    library.asked.clear()
    for seed in range(100):
        tested.rows([noise(seed), TEXT])
    assert not {f"<{word}>" for word in TEXT.split()} & set(library.asked)


def test_long_words_are_not_kept() -> None:
    tested = WordMemo(CUT, Library(), 1 << 20)
    long = "x" * (LONGEST + 1)
    assert tested.rows([f"{TEXT} {long}"]) == Library()([f"{TEXT} {long}"])
    assert long not in tested._young


def test_of_text_that_never_repeats_the_library_gets_all_but_a_sample() -> None:
    library = Library()
    tested = WordMemo(CUT, library, 1 << 20)
    for seed in range(320):
        tested.rows([noise(seed)])
    assert len([text for text in library.asked if " " in text]) == 300
    assert len([text for text in library.asked if " " not in text]) == 20 * 40


def test_of_many_strange_texts_only_some_are_cut() -> None:
    library, cut = Library(), []
    tested = WordMemo(replace(CUT, split=lambda text: cut.append(text) or text.split()), library, 1 << 20)
    texts = [noise(seed) for seed in range(160)]
    assert tested.rows(texts) == Library()(texts)
    assert cut == texts[:: 160 // memo.TRIED]
    assert set(texts) - set(cut) <= set(library.asked)
    ordinary = [TEXT] * 160
    tested.rows(ordinary)
    assert len(cut) == memo.TRIED + 160


def test_ordinary_text_is_learnt_among_noise() -> None:
    library = Library()
    tested = WordMemo(CUT, library, 1 << 20)
    for seed in range(20):
        tested.rows([TEXT, noise(seed)])
    library.asked.clear()
    tested.rows([TEXT])
    assert not library.asked


@pytest.mark.parametrize("most", [3000, 1 << 20])
def test_eight_threads_get_what_one_gets(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "SAMPLED", 1)
    tested = WordMemo(CUT, Library(), most)

    def work(seed: int) -> bool:
        texts = [noise(seed % 50, 12), TEXT, noise(seed % 7, 12)]
        return tested.rows(texts) == Library()(texts)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(2000)))
