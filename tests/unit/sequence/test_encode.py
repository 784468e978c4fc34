"""Inputs → rows: what is read, and that what is not names its field, limit and fix."""

from typing import Any

import numpy as np
import pytest

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest
from services.sequence.models import encode

LETTERS: dict[str, Any] = {"graphemes": ["<pad>", "<unk>", "</s>", *"abcdef"], "end_of_word": "</s>"}
AUDIO = Manifest(
    name="vad",
    version=1,
    tasks=("sequence.session",),
    preprocessing={"kind": "audio", "sample_rate_hz": 16000},
)


def field_of(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    return error.value.violations[0].field


def test_words_end_with_the_end_id_and_lose_case_and_accents() -> None:
    words = encode.text_to_words("Façade  BED", LETTERS, 10, "texts[0]")
    assert [word.tolist() for word in words] == [[8, 3, 5, 3, 6, 7, 2], [4, 7, 6, 2]]


@pytest.mark.parametrize(
    ("text", "said"), [("b4d", "'4'"), ("日本", "'日'"), ("  ", "no word"), ("a" * 11, "at most 10")]
)
def test_words_that_cannot_be_read_name_the_text(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        encode.text_to_words(text, LETTERS, 10, "texts[3]")
    assert field_of(refused) == "texts[3]"


def test_special_symbols_are_no_letters() -> None:
    with pytest.raises(InvalidInput):
        encode.text_to_words("<pad>", LETTERS, 10, "texts[0]")


def test_ids_outside_the_vocabulary_name_the_first() -> None:
    with pytest.raises(InvalidInput, match="1000000000") as refused:
        encode.check_ids(np.array([1, 10**9]), 99, 512, False, "token_ids.sequences[2]")
    assert field_of(refused) == "token_ids.sequences[2].values[1]"


def test_too_many_ids_are_refused_or_cut() -> None:
    ids = np.arange(9)
    with pytest.raises(InvalidInput, match="9 tokens; this model reads 8"):
        encode.check_ids(ids, 99, 8, False, "token_ids.sequences[0]")
    assert encode.check_ids(ids, 99, 8, True, "token_ids.sequences[0]").tolist() == list(range(8))


def test_values_that_are_no_samples_are_named() -> None:
    with pytest.raises(InvalidInput, match="divide 16-bit samples by 32768") as refused:
        encode.check_amplitude(np.array([0.5, 12000.0, 3.0], np.float32), "series")
    assert field_of(refused) == "series.values[1]"


def test_a_little_overshoot_is_sound() -> None:
    assert encode.check_amplitude(np.array([-1.25], np.float32), "series").tolist() == [-1.25]


def test_another_sample_rate_is_refused_and_none_is_fine() -> None:
    encode.check_rate(0, AUDIO, "series.sample_rate_hz")
    encode.check_rate(16000, AUDIO, "series.sample_rate_hz")
    with pytest.raises(InvalidInput, match="16000 Hz"):
        encode.check_rate(8000, AUDIO, "series.sample_rate_hz")


def test_the_last_frame_is_filled_with_silence() -> None:
    assert encode.to_frames(np.arange(1, 6, dtype=np.float32), 4).tolist() == [[1, 2, 3, 4], [5, 0, 0, 0]]


def test_padding_marks_real_tokens() -> None:
    ids, mask, lengths = encode.pad([np.array([5]), np.array([6, 7, 8])], 9)
    assert (ids.tolist(), mask.tolist(), lengths.tolist()) == (
        [[5, 9, 9], [6, 7, 8]],
        [[1, 0, 0], [1, 1, 1]],
        [1, 3],
    )


def test_the_words_of_a_call_are_bounded_together() -> None:
    half = "a " * (encode.MOST_WORDS // 2)
    assert [len(words) for words in encode.texts_to_words([half, half], LETTERS, 32, "texts")] == [4096, 4096]
    with pytest.raises(InvalidInput, match=r"texts\[2\]: at most 8192 words"):
        encode.texts_to_words([half, half, "a"], LETTERS, 32, "texts")


def test_a_long_text_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidInput, match=r"text\[0\]: .* 131072 characters"):
        encode.texts_to_words(["a" * (encode.MOST_LETTERS + 1)], LETTERS, 32, "text")


def test_a_model_trained_on_beginnings_reads_beginnings() -> None:
    whole = Manifest(name="m", version=1, tasks=("sequence.classify",), limits={"max_tokens": 512})
    cut = whole.model_copy(update={"preprocessing": {"cut_tokens": 64}})
    assert (encode.max_tokens(whole), encode.cuts(whole)) == (512, False)
    assert (encode.max_tokens(cut), encode.cuts(cut)) == (64, True)
    assert whole.digest != cut.digest
