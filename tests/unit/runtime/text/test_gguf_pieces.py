"""A SentencePiece vocabulary out of GGUF metadata gives the library's own ids and texts."""

from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.store.store import ModelStore
from services.runtime.text import build
from tests.unit.runtime.text.made import CORPUS, piece_model

Library = sentencepiece.SentencePieceProcessor
WORDS = sorted({word for line in CORPUS for word in line.split(" ")})
TEXT = st.text(max_size=30) | st.lists(st.sampled_from([*WORDS, "", "🙂", "<0x0A>", "\n"])).map(" ".join)


def fields(library: Library) -> dict[str, Any]:
    """What a converter writes of a SentencePiece model."""
    ids = range(library.vocab_size())
    kinds = ((library.is_unknown, 2), (library.is_control, 3), (library.is_unused, 5), (library.is_byte, 6))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [library.id_to_piece(one) for one in ids],
        "tokenizer.ggml.scores": [library.get_score(one) for one in ids],
        "tokenizer.ggml.token_type": [next((kind for test, kind in kinds if test(one)), 1) for one in ids],
        "tokenizer.ggml.bos_token_id": library.bos_id(),
    }


def agrees(library: Library) -> None:
    rebuilt = build.from_gguf(fields(library))

    @settings(deadline=None)
    @given(text=TEXT.filter(lambda text: "<s>" not in text and "</s>" not in text))
    def check(text: str) -> None:
        ids = rebuilt.encode(text, add_special_tokens=False).ids
        assert ids == library.encode(text)
        assert rebuilt.decode(ids) == library.decode(ids)
        assert rebuilt.encode(text).ids == [library.bos_id(), *ids]

    check()


def test_a_made_model() -> None:
    agrees(Library(model_proto=piece_model("bpe")))


@pytest.mark.models
def test_mistrals_own(model_store: ModelStore) -> None:
    manifest = model_store.resolve("mistral-spm")
    agrees(Library(model_file=str(model_store.directory(manifest) / "tokenizer.model")))


def test_the_file_may_want_no_bos_and_no_space_in_front() -> None:
    told = fields(Library(model_proto=piece_model("bpe")))
    told |= {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_space_prefix": False}
    rebuilt = build.from_gguf(told)
    assert "".join(rebuilt.encode("the fox").tokens) == "the▁fox"
    assert rebuilt.decode(rebuilt.encode("the fox").ids) == "the fox"
