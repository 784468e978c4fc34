"""Bad words are seen however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.engine.bad_words import BadWords

PIECES = [b"a", b"b", b"ab", b"ba", b"c", b"abc"]


@given(
    st.lists(st.integers(0, 5), max_size=30), st.lists(st.sampled_from([b"abc", b"cc", b"bab", b"a"]), max_size=2)
)
def test_output_kept_this_way_never_contains_one(tokens: list[int], words: list[bytes]) -> None:
    guard, output = BadWords(tuple(words), PIECES.__getitem__), b""
    for token in tokens:
        refused = guard.completed_by(token)
        assert refused == any(word in output + PIECES[token] for word in words)
        if not refused:
            guard.push(token)
            output += PIECES[token]
