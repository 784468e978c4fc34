"""The Tokenizer protocol over every family: columns, special tokens, offsets, digests, threads."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.manifest import TokenizerSpec
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer as tokenizers
from services.runtime.text.padding import Padding, pad
from services.runtime.text.truncation import Truncation, truncate
from tests.unit.runtime.text.made import (
    all_families,
    byte_level,
    from_library,
    manifest,
    piece_model,
    word_piece,
)

FAMILIES = sorted(all_families())
MIXED = "héllo 日本語 🙂\n\n  x"


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(max_size=30), second=st.none() | st.text(max_size=10), add=st.booleans())
def test_every_way_of_encoding_agrees(family: str, text: str, second: str | None, add: bool) -> None:
    tokenizer = all_families()[family]
    encoded = tokenizer.encode(text, second, add_special_tokens=add)
    given_input = text if second is None else (text, second)
    assert {len(column) for column in encoded.columns()} == {len(encoded)}
    assert tokenizer.encode_batch([given_input], add_special_tokens=add)[0] == encoded
    assert tokenizer.encode_ids_batch([given_input], add_special_tokens=add) == [list(encoded.ids)]
    # A unigram model of the tokenizers library spells an unknown token as the text it stands for.
    known = [(i, token) for i, token in zip(encoded.ids, encoded.tokens, strict=True) if i != tokenizer.unk_id]
    assert [token for _, token in known] == [tokenizer.token(i) for i, _ in known]


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(alphabet="abé日🙂\n ", max_size=20))
def test_offsets_lie_in_the_text_in_order(family: str, text: str) -> None:
    encoded = all_families()[family].encode(text, add_special_tokens=False)
    assert all(0 <= start <= end <= len(text) for start, end in encoded.offsets)
    assert list(encoded.offsets) == sorted(encoded.offsets)


@pytest.mark.parametrize("family", ["byte_level", "pieces_bpe"])
def test_all_byte_tokens_of_a_character_have_its_place(family: str) -> None:
    encoded = all_families()[family].encode("ab🦊cd", add_special_tokens=False)
    covering = [offset for offset in encoded.offsets if offset[0] <= 2 < offset[1]]
    assert len(covering) > 1
    assert set(covering) == {(2, 3)}


def test_word_ids_count_words_and_leave_special_tokens_out() -> None:
    pieces = all_families()["pieces_bpe"].encode("the fox jumps")
    assert pieces.word_ids[0] is None
    assert sorted({word for word in pieces.word_ids if word is not None}) == [0, 1, 2]
    pair = all_families()["word_piece"].encode("the fox", "a dog")
    words = [word for word, sequence in zip(pair.word_ids, pair.sequence_ids, strict=True) if sequence == 1]
    assert words[0] == 0


def test_pairs_carry_type_and_sequence_ids() -> None:
    tokenizer = all_families()["pieces_bpe"]
    first, second = tokenizer.encode("the"), tokenizer.encode("fox")
    pair = tokenizer.encode("the", "fox")
    assert list(pair.ids) == [*first.ids, *second.ids]
    assert list(pair.type_ids) == [0] * len(first) + [1] * len(second)
    assert [i for i, s in enumerate(pair.sequence_ids) if s is None] == [0, len(first)]


@pytest.mark.parametrize(
    ("family", "spelling"), [("byte_level", "<|im_end|>"), ("word_piece", "[SEP]"), ("pieces_bpe", "</s>")]
)
def test_a_spelt_special_token_is_parsed_or_plain_as_asked(family: str, spelling: str) -> None:
    tokenizer = all_families()[family]
    control = tokenizer.special_tokens[spelling]
    text = f"a {spelling} b"
    assert control in tokenizer.encode(text, add_special_tokens=False).ids
    plain = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
    assert control not in plain.ids
    assert tokenizer.split_special(text) == ["a ", control, " b"]


def test_special_tokens_as_text_are_what_the_library_makes_of_them() -> None:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [("<b>", True, 950), ("<gap>", False, 900), ("fox", False, 901), ("<c>", True, 2000)]
    document = json.loads(byte_level().to_str())
    document["added_tokens"] += [plain | {"content": c, "special": s, "id": i} for c, s, i in added]
    library = Library.from_str(json.dumps(document))
    tokenizer = from_library(library)
    library.encode_special_tokens = True
    text = "a<gap><b> fox<|im_end|><c>"
    assert tokenizer.encode_ids(text, parse_special=False) == library.encode(text).ids
    library.encode_special_tokens = False
    assert (
        tokenizer.encode_ids(text) == library.encode(text).ids != tokenizer.encode_ids(text, parse_special=False)
    )


def test_parsed_control_pieces_keep_their_place_in_the_text() -> None:
    encoded = all_families()["pieces_bpe"].encode("the</s>fox", add_special_tokens=False)
    at = list(encoded.tokens).index("</s>")
    assert encoded.offsets[at] == (3, 7)
    assert encoded.offsets[-1][1] == 10


@given(text=st.text(max_size=40))
def test_sentencepiece_ids_are_the_librarys(text: str) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=piece_model())
    tokenizer = all_families()["pieces_bpe"]
    assert tokenizer.encode_ids(text, add_special_tokens=False, parse_special=False) == library.encode(text)


def test_truncation_and_padding_in_the_file_are_dropped() -> None:
    assert len(all_families()["word_piece"].encode("the " * 30)) == 32
    assert len(all_families()["word_piece"].encode("the")) == 3


def test_pad_and_unk_come_from_the_file_unless_the_spec_names_them() -> None:
    tokenizer = all_families()["word_piece"]
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id) == (0, 1, None)
    assert from_library(word_piece(), pad_token="[SEP]").pad_id == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_outside_the_vocabulary_have_no_text(family: str) -> None:
    tokenizer = all_families()[family]
    assert tokenizer.token(tokenizer.vocab_size) == ""
    assert tokenizer.decode([tokenizer.vocab_size]) == ""
    assert tokenizer.token_id("no such token") is None


def test_require_ids_names_the_first_bad_one() -> None:
    tokenizers.require_ids([0, 9], 10)
    with pytest.raises(InvalidInput, match=r"ids\[1\]: 10 is outside the vocabulary; ids go from 0 to 9"):
        tokenizers.require_ids([9, 10, 11], 10)
    with pytest.raises(InvalidInput, match=r"x\[0\]"):
        tokenizers.require_ids([-1], 10, "x")


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_token_bytes_after_a_first_token_make_the_text(family: str, data: st.DataObject) -> None:
    tokenizer = all_families()[family]
    lead = tokenizer.encode_ids("the", add_special_tokens=False)
    ids = tokenizer.encode_ids(data.draw(st.text(alphabet="abé日 ", max_size=10)), add_special_tokens=False)
    ids = [i for i in ids if i not in tokenizer.special_ids]
    added = b"".join(map(tokenizer.token_bytes, ids))
    assert tokenizer.decode([*lead, *ids]) == tokenizer.decode(lead) + added.decode("utf-8", "replace")


def test_digest_follows_file_and_spec(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(byte_level().to_str())
    plain = tokenizers.load(manifest(TokenizerSpec()), tmp_path)
    named = tokenizers.load(manifest(TokenizerSpec(eos_token="<|im_end|>")), tmp_path)
    assert plain.digest == tokenizers.load(manifest(TokenizerSpec()), tmp_path).digest
    assert plain.digest != named.digest
    assert plain.digest.removeprefix("sha256:") != hashlib.sha256().hexdigest()


def test_sentencepiece_loads_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(piece_model())
    spec = TokenizerSpec(kind="sentencepiece", file="tokenizer.model")
    loaded = tokenizers.load(manifest(spec), tmp_path)
    assert loaded.encode_ids("the fox") == all_families()["pieces_bpe"].encode_ids("the fox")


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(byte_level().to_str())
    with pytest.raises(PreconditionFailed, match="has no tokenizer"):
        tokenizers.load(manifest(None), tmp_path)
    with pytest.raises(PreconditionFailed, match="eos token '</s>' is not in the vocabulary"):
        tokenizers.load(manifest(TokenizerSpec(eos_token="</s>")), tmp_path)
    document = json.loads(byte_level().to_str()) | {"decoder": {"type": "CTC"}}
    document["decoder"] |= {"pad_token": "a", "word_delimiter_token": "b", "cleanup": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(PreconditionFailed, match=r"decoder \['CTC'\]"):
        tokenizers.load(manifest(TokenizerSpec()), tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_threads_with_mixed_options_get_what_one_gets(family: str) -> None:
    tokenizer = all_families()[family]

    def work(seed: int) -> object:
        text = f"the quick <|im_end|> [SEP] fox {seed} " * (1 + seed % 7)
        encoded = tokenizer.encode(text, add_special_tokens=seed % 2 == 0, parse_special=seed % 3 == 0)
        cut = truncate(encoded, Truncation(4 + seed % 9, "left" if seed % 2 else "right"))
        padded = pad([cut], Padding("max", 0, "x", 20, "left" if seed % 5 else "right"))
        return padded, tokenizer.decode(encoded.ids, seed % 2 == 1), tokenizer.encode_ids_batch([text])

    expected = [work(seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(200))) == expected


GOLDEN = [
    (
        "smollm2-135m-instruct",
        MIXED,
        [88, 2756, 31394, 17097, 241, 115, 40993, 179, 120, 248, 47526, 8866, 1792],
    ),
    (
        "smollm2-135m-instruct",
        "Hello world! It costs 1234 dollars.",
        [19556, 905, 17, 657, 3499, 216, 33, 34, 35, 36, 8358, 30],
    ),
    ("gpt2-bpe", "I'm here, it's 2024.", [40, 1101, 994, 11, 340, 338, 48609, 13]),
    (
        "gpt2-bpe",
        MIXED,
        [71, 2634, 18798, 10545, 245, 98, 17312, 105, 45739, 252, 32485, 628, 220, 2124],
    ),
    ("minilm-l6-v2", "A man is eating food.", [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]),
    ("mistral-spm", "Hello world!", [1, 22557, 1526, 28808]),
    ("mistral-spm", "The quick brown fox", [1, 415, 2936, 9060, 285, 1142]),
]


@pytest.mark.models
@pytest.mark.parametrize(("model", "text", "ids"), GOLDEN)
def test_real_models_give_the_published_ids(
    model_store: ModelStore, model: str, text: str, ids: list[int]
) -> None:
    found = model_store.resolve(model)
    tokenizer = tokenizers.load(found, model_store.directory(found))
    assert tokenizer.encode_ids(text) == ids
    if model != "minilm-l6-v2":
        assert tokenizer.decode(ids) == text
