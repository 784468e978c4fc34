"""Native models: the library's ids on every text, and the library asked for all that they do not know."""

import itertools
import random
import string
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers

from services.runtime.compiled import FOLDER, NoCompiler, Project
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from services.runtime.text.tokenizer import Tokenizer
from services.tokenization.native import rows
from services.tokenization.native.kinds import COUNT, LETTERS, MARKS, PUNCTUATION
from services.tokenization.native.rows import native
from services.tokenization.native.rules import of_document
from services.tokenization.words import Words
from tests.bench.serving.texts import KINDS
from tests.unit.runtime.text.hostile import PIECES, hostile_texts
from tests.unit.runtime.text.made import all_families, from_library
from tests.unit.runtime.text.test_cuts import CODE_POINTS, around, blanks, cutting

FAMILIES = ("byte_level", "blanks", "digits", "runs", "word_piece", "cased")
REAL = ("smollm2-135m-instruct", "gpt2-bpe", "minilm-l6-v2")
# Characters of every kind that GPT-2's and BERT's expressions tell apart.
TELLING = "aS1'. \n\x0bé"
ascii_texts = st.text(st.sampled_from(string.printable), max_size=60)


EDGES = [chr(at + step) for r in (*LETTERS, *MARKS, *PUNCTUATION) for at in r for step in (-1, 0, 1)]


class Below:
    """The library's packed ids. Notes what it is asked."""

    def __init__(self, of: Tokenizer) -> None:
        self.of, self.asked = of, list[str]()

    def __call__(self, texts: Sequence[str]) -> list[bytes]:
        self.asked += texts
        return [array("I", ids).tobytes() for ids in self.of.encode_ids_batch(texts, add_special_tokens=False)]


def opened(of: Tokenizer) -> tuple[Any, Below]:
    below = Below(of)
    found = native(of, FOLDER, below)
    assert found is not None
    below.asked.clear()
    return found, below


@cache
def family(name: str) -> tuple[Any, Below]:
    if name != "runs":
        return opened(cutting()[name])
    library = blanks()
    runs = pre_tokenizers.Digits(individual_digits=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([runs, library.pre_tokenizer])
    return opened(from_library(library))


def check(tested: tuple[Any, Below], texts: Sequence[str]) -> None:
    found, below = tested
    assert found(texts) == below(texts)


@pytest.mark.parametrize("name", FAMILIES)
@given(texts=st.lists(st.one_of(hostile_texts, ascii_texts), max_size=3))
def test_ids_are_the_librarys(name: str, texts: list[str]) -> None:
    check(family(name), texts)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_four_telling_characters_and_any_two_neighbours(name: str) -> None:
    check(family(name), ["".join(four) for four in itertools.product(TELLING, repeat=4)])
    check(family(name), [first + second for first in PIECES for second in PIECES])
    check(family(name), around([*CODE_POINTS[:0x300], *CODE_POINTS[0x300::1000], *EDGES]))
    contractions = itertools.product(" x'1", "strevlmdSx", "strevlmdSx", " a'")
    check(family(name), [f"{before}'{first}{second}{after}" for before, first, second, after in contractions])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_character_that_has_a_kind(name: str) -> None:
    for start in range(0, COUNT, 1 << 14):
        check(family(name), around(CODE_POINTS[start : start + (1 << 14)]))


@pytest.mark.parametrize("name", FAMILIES)
def test_words_about_the_longest_that_is_encoded_natively(name: str) -> None:
    kinds = ("the", "x", "7", "-", " ", "\n", " \n")
    check(
        family(name),
        [f"a{(kind * 140)[:size]}{end}" for kind in kinds for size in range(95, 135) for end in ("", "b")],
    )


@pytest.mark.models
@pytest.mark.parametrize("model", REAL)
def test_real_models_give_the_librarys_ids(model_store: ModelStore, model: str) -> None:
    found = model_store.resolve(model)
    tested = opened(tokenizer.load(found, model_store.directory(found)))
    for source in KINDS.values():
        check(tested, next(source(600, 5)))
    assert sum(map(len, tested[1].asked)) < 1.2 * 600 * 1000  # what the comparison asks itself, and a few holes
    check(tested, [first + second for first in PIECES for second in PIECES])
    check(tested, [f"x'{first}{second}" for first in string.printable for second in string.ascii_lowercase])
    noise = random.Random(1)
    check(tested, ["".join(noise.choices(string.printable, k=noise.randrange(300))) for _ in range(2000)])


def test_a_token_that_no_merges_lead_to_is_never_given() -> None:
    alphabet = {char: place for place, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = alphabet | {token: 256 + place for place, token in enumerate(("bc", "ab", "abc"))}
    library = Library(models.BPE(vocabulary, [("b", "c"), ("a", "b"), ("ab", "c")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tested = opened(from_library(library))
    check(tested, ["abc", "aab abc"])
    assert list(array("I", tested[0](["abc"])[0])) == [alphabet["a"], vocabulary["bc"]]


def test_only_parts_with_unknown_characters_are_asked_for() -> None:
    found, below = family("byte_level")
    below.asked.clear()
    found(["The fox's den, 24 x", ""])
    assert below.asked == []
    found(["The\xa0fox sees the Devil, देव, and the naïve dog sleeps; it is \u2003 late. " + "The fox. " * 9])
    assert below.asked == ["The\xa0fox", " देव,", " \u2003 late."]


@pytest.mark.parametrize("text", ["x देव देव", "a<|im_end|>b c d e f", "e\u0301\u0301 e\u0301"])
def test_what_is_mostly_foreign_or_spells_a_special_token_is_asked_for_whole(text: str) -> None:
    found, below = family("byte_level")
    below.asked.clear()
    found(["The fox", text, "den"])
    assert below.asked == [text]


def test_families_without_rules_have_no_native_model() -> None:
    made = {name for name, one in all_families().items() if native(one, FOLDER, Below(one))}
    assert made == {"byte_level", "word_piece"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("byte_level", {"ignore_merges": True}),
        ("byte_level", {"end_of_word_suffix": "</w>"}),
        ("byte_level", {"vocab": {"a": 0}, "merges": []}),
        ("word_piece", {"unk_token": "<none>"}),
        ("word_piece", {"continuing_subword_prefix": ""}),
    ],
)
def test_a_model_that_differs_has_no_rules(name: str, change: dict[str, Any]) -> None:
    document = cutting()[name].document()
    assert of_document(document) is not None
    assert of_document(document | {"model": document["model"] | change}) is None


def test_without_a_compiler_the_memo_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def library(project: Project, folder: Path) -> Path:
        raise NoCompiler("no g++ is on the PATH")

    monkeypatch.setattr(Project, "library", library)
    one = all_families()["byte_level"]
    assert native(one, tmp_path, Below(one)) is None
    assert Words(one, 1 << 20, tmp_path).packed(["The fox"], False) == Below(one)(["The fox"])


def test_a_model_whose_sample_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    one = all_families()["word_piece"]
    monkeypatch.setattr(rows, "of_document", lambda _: of_document(all_families()["byte_level"].document()))
    assert native(one, FOLDER, Below(one)) is None


def test_eight_threads_get_what_one_gets() -> None:
    found, below = family("word_piece")
    texts = next(KINDS["prose"](64, 3))
    right = below(texts)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: found(texts) == right, range(200)))
