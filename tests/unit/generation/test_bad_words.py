"""Bad words are seen however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.engine.bad_words import BadWords, Vocabulary

PIECES = [b"a", b"b", b"ab", b"ba", b"c", b"abc", b"", b"\xff", b"\xff\xffa"]
TEXTS = st.sampled_from([b"abc", b"cc", b"bab", b"a", b"\xffab", b"\xff\xff"])


@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=30), st.lists(TEXTS, max_size=3))
def test_exactly_the_tokens_that_complete_one_are_named(tokens: list[int], texts: list[bytes]) -> None:
    guard, output, tail = BadWords(texts, Vocabulary(PIECES)), b"", b""
    for token in tokens:
        expected = [i for i, piece in enumerate(PIECES) if any(text in output + piece for text in texts)]
        assert guard.after(tail) == expected
        if token not in expected:
            tail = guard.extend(tail, token)
            output += PIECES[token]


@given(st.lists(st.binary(max_size=4), max_size=30), st.binary(min_size=1, max_size=3))
def test_the_vocabulary_is_searched_exactly(spellings: list[bytes], text: bytes) -> None:
    vocabulary = Vocabulary(spellings)
    assert set(vocabulary.containing(text)) == {i for i, piece in enumerate(spellings) if text in piece}
    assert sorted(vocabulary.starting(text)) == [i for i, piece in enumerate(spellings) if piece.startswith(text)]
