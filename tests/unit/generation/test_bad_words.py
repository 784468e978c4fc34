"""Bad words are seen however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.engine.bad_words import BadWords, Open, Vocabulary

PIECES = [b"a", b"b", b"ab", b"ba", b"c", b"abc", b"", b"\xff", b"\xff\xffa"]
TEXTS = st.sampled_from([b"abc", b"cc", b"bab", b"a", b"\xffab", b"\xff\xff", b"aabaa", b"aabab"])


@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=30), st.lists(TEXTS, max_size=3))
def test_exactly_the_tokens_that_complete_one_are_named(tokens: list[int], texts: list[bytes]) -> None:
    guard, output = BadWords(texts, Vocabulary(PIECES)), b""
    opened: Open = ()
    for token in tokens:
        expected = [i for i, piece in enumerate(PIECES) if any(text in output + piece for text in texts)]
        assert sorted({*guard.always.tolist(), *guard.after(opened)}) == expected
        if token not in expected:
            opened = guard.extend(opened, token)
            output += PIECES[token]


@given(st.lists(st.binary(max_size=4), max_size=30), st.binary(min_size=1, max_size=3))
def test_the_vocabulary_is_searched_exactly(spellings: list[bytes], text: bytes) -> None:
    vocabulary = Vocabulary(spellings)
    assert set(vocabulary.containing(text)) == {i for i, piece in enumerate(spellings) if text in piece}
    assert sorted(vocabulary.starting(text)) == [i for i, piece in enumerate(spellings) if piece.startswith(text)]


class Counting(Vocabulary):
    """How often the vocabulary is searched."""

    searches = 0

    def starting(self, text: bytes) -> list[int]:
        self.searches += 1
        return super().starting(text)


def test_the_work_of_a_token_follows_what_is_open_not_how_many_texts_there_are() -> None:
    vocabulary = Counting([b"x", b"a", b"xxxxxxxx"])
    texts = [b"%03d" % number + b"x" * 1021 for number in range(256)]
    guard = BadWords(texts, vocabulary)
    opened = guard.extend((), 1)
    assert opened == () and guard.after(opened) == [] and vocabulary.searches == 0
    alike = BadWords([b"x" * 1000 + b"%03d" % number for number in range(256)], vocabulary)
    for _ in range(1500):
        opened = alike.extend(opened, 0)
        alike.after(opened)
    assert len(opened) == 1000 and vocabulary.searches < 256 * vocabulary.longest
