"""The parts of a text, encoded apart, give the ids of the whole, on text that tries to break each rule."""

import json
from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import given
from tokenizers import Tokenizer as Library
from tokenizers import normalizers, pre_tokenizers, trainers

from services.runtime.store.store import ModelStore
from services.runtime.text import cuts, tokenizer
from services.runtime.text.cuts import Cut
from services.runtime.text.tokenizer import Tokenizer
from tests.unit.runtime.text.hostile import CONTROLS, PIECES, SPACES, hostile_texts
from tests.unit.runtime.text.made import all_families, byte_level, from_library, word_piece

REAL = ("smollm2-135m-instruct", "gpt2-bpe", "minilm-l6-v2", "mistral-spm")
# Every character between things that a border could lie next to.
AROUND = "a{0} b{0}c 'll{0}\n {0}d.{0}1 {0}  {0}\t2{0}e{0}! {0}?{0} "
# The same for a coarse cut, which proves nothing where a word ends in white space.
SPACED = "a {0}b x{0} {0}! y"
CODE_POINTS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]

# Unicode 16 has characters below U+323B0, and tags: of the others one in sixteen stands for those around it.
CHARACTERS = [c for c in CODE_POINTS if ord(c) < 0x323B0 or 0xE0000 <= ord(c) < 0xE0200 or ord(c) % 16 == 0]


def around(characters: Sequence[str]) -> list[str]:
    return [form.format(character) for form in (AROUND, SPACED) for character in characters]


def blanks() -> Library:
    """Byte-level BPE with a token for each pair of blanks or digits: a border in the wrong place changes ids."""
    library = Library.from_str(byte_level().to_str())
    pairs = [first + second for first in SPACES + CONTROLS for second in SPACES + CONTROLS]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    library.train_from_iterator([*pairs, *map(str, range(10, 100))] * 2, trainer)
    return library


@cache
def cutting() -> dict[str, Tokenizer]:
    """One tokenizer of each family that has a rule."""
    digits = blanks()
    digits.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), digits.pre_tokenizer]
    )
    cased = Library.from_str(word_piece().to_str())
    cased.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    families = {name: all_families()[name] for name in ("byte_level", "word_piece", "pieces_bpe")}
    return families | {
        "blanks": from_library(blanks()),
        "digits": from_library(digits),
        "cased": from_library(cased),
    }


FAMILIES = ("byte_level", "blanks", "digits", "word_piece", "cased", "pieces_bpe")


def check(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Whole texts against their parts; a text of which a rule proves nothing is left out."""
    whole = tokenizer.encode_ids_batch(texts, add_special_tokens=False)
    for cut in tokenizer.cuts:
        parts = [
            (text, ids, found)
            for text, ids in zip(texts, whole, strict=True)
            if (found := certain(cut, text)) is not None
        ]
        apart = iter(
            tokenizer.encode_ids_batch([part for _, _, found in parts for part in found], add_special_tokens=False)
        )
        for text, ids, found in parts:
            assert [i for _ in found for i in next(apart)] == ids, text


def certain(cut: Cut, text: str) -> list[str] | None:
    parts = cut.parts(text)
    return None if parts is None or not all(map(cut.certain, parts)) else list(map(cut.spell, parts))


@pytest.mark.parametrize("family", FAMILIES)
@given(text=hostile_texts)
def test_parts_give_the_ids_of_the_whole(family: str, text: str) -> None:
    check(cutting()[family], [text])


@pytest.mark.parametrize("family", FAMILIES)
def test_any_two_neighbours_give_the_ids_of_the_whole(family: str) -> None:
    check(cutting()[family], [first + second for first in PIECES for second in PIECES])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_four_hundredth_character_next_to_every_border(family: str) -> None:
    check(cutting()[family], around([*CODE_POINTS[:0x400], *CODE_POINTS[0x400::400]]))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_character_next_to_every_border(family: str) -> None:
    for start in range(0, len(CHARACTERS), 1 << 14):
        check(cutting()[family], around(CHARACTERS[start : start + (1 << 14)]))


@pytest.mark.models
@pytest.mark.parametrize("model", REAL)
def test_real_models_give_the_ids_of_the_whole(model_store: ModelStore, model: str) -> None:
    found = model_store.resolve(model)
    real = tokenizer.load(found, model_store.directory(found))
    texts = [first + second for first in PIECES for second in PIECES]
    check(real, [*texts, *around(CODE_POINTS[:0x3000:3])])

    @given(text=hostile_texts)
    def hold(text: str) -> None:
        check(real, [text])

    hold()


@pytest.mark.parametrize(
    ("family", "text", "coarse", "fine"),
    [
        ("byte_level", "A fox's 2nd naïve “no”\n", None, ["A", " fox", "'s", " 2", "nd", " naïve", " “no”", "\n"]),
        ("byte_level", "The fox's x.", ["The", " fox's", " x."], ["The", " fox", "'s", " x", "."]),
        ("byte_level", " x  y", None, [" x", "  y"]),
        ("byte_level", "", [""], []),
        ("word_piece", "A  fox's naïve.\n", ["A", "", "fox's", "naïve.\n"], ["A", "fox", "'", "s", "naïve", "."]),
        ("pieces_bpe", "The fox. ", None, ["The", "fox. "]),
        ("pieces_bpe", "The  fox\nx", None, ["The", " fox\nx"]),
        ("pieces_bpe", "The fox\nx", ["The", "fox\nx"], ["The", "fox\nx"]),
        ("pieces_bpe", "  ", None, ["  "]),
        ("pieces_bpe", "", None, []),
    ],
)  # fmt: skip
def test_ordinary_text_is_cut_into_words(
    family: str, text: str, coarse: list[str] | None, fine: list[str]
) -> None:
    assert [certain(cut, text) for cut in cutting()[family].cuts] == [coarse, fine]


@pytest.mark.parametrize(
    ("family", "text"),
    [("byte_level", "a<|im_end|>"), ("word_piece", "x[SEP]y"), ("pieces_bpe", "</s>"), ("pieces_bpe", "a▁ b")],
)
def test_where_nothing_is_certain_there_are_no_parts(family: str, text: str) -> None:
    assert [cut.parts(text) for cut in cutting()[family].cuts] == [None, None]


def test_families_without_a_proof_are_never_cut() -> None:
    assert {name for name, one in all_families().items() if one.cuts} == {"byte_level", "word_piece", "pieces_bpe"}


@pytest.mark.parametrize(
    ("library", "parts"),
    [
        (byte_level, {"normalizer": {"type": "Lowercase"}}),
        (byte_level, {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}),
        (byte_level, {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}}),
        (byte_level, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}),
        (byte_level, {"model": {"type": "BPE", "dropout": 0.1}}),
        (byte_level, {"model": {"type": "Unigram"}}),
        (word_piece, {"normalizer": {"type": "NFKC"}}),
        (word_piece, {"added_tokens": [{"content": "[X]", "normalized": True}]}),
    ],
)
def test_a_pipeline_that_differs_in_one_step_has_no_rule(
    library: Callable[[], Library], parts: dict[str, object]
) -> None:
    document = json.loads(library().to_str())
    assert cuts.of_document(document)
    assert cuts.of_document(document | parts) == ()


def test_a_piece_with_a_space_inside_forbids_cutting_there() -> None:
    assert cuts.of_pieces(["▁", "▁the", "▁▁"], ["<s>"])
    assert cuts.of_pieces(["▁", "the▁"], ["<s>"]) == ()
    assert cuts.of_pieces(["the"], ["<s>"]) == ()
