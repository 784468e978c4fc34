"""Stop strings over any split of the text."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.engine.stops import StopStrings, TextOutput

LETTERS = st.text("abc", max_size=40)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


def reference(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """Character by character: the first end of a stop, the longest of those that end there."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[:end] if include else text[: end - len(longest)], longest
    return text, None


def fed(pieces: list[str], stops: list[str], include: bool) -> tuple[list[str], str | None]:
    machine, shown = StopStrings(stops, include), []
    for piece in pieces:
        text, match = machine.push(piece)
        shown.append(text)
        if match:
            return shown, match
    return [*shown, machine.flush()], None


@given(st.lists(LETTERS, max_size=8), STOPS, st.booleans())
def test_any_split_gives_the_text_before_the_first_stop(
    pieces: list[str], stops: list[str], include: bool
) -> None:
    shown, match = fed(pieces, stops, include)
    assert ("".join(shown), match) == reference("".join(pieces), stops, include)


@given(LETTERS, STOPS)
def test_nothing_shown_is_ever_part_of_the_match(text: str, stops: list[str]) -> None:
    final, _ = reference(text, stops, include=False)
    machine, shown = StopStrings(stops), ""
    for letter in text:
        new, match = machine.push(letter)
        shown += new
        assert final.startswith(shown)
        if match:
            break


def test_only_what_may_begin_a_stop_is_kept_back() -> None:
    machine = StopStrings(["###"])
    assert machine.push("a#") == ("a", None)
    assert machine.push("b#") == ("#b", None)
    assert machine.push("##") == ("", "###")


class Letters:
    """Token i is letter i; the last letter only comes with the flush."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, token_id: int) -> str:
        text, self.held = self.held, chr(token_id)
        return text

    def flush(self) -> str:
        text, self.held = self.held, ""
        return text


def test_a_stop_that_the_decoder_held_back_is_found_in_the_flush() -> None:
    output = TextOutput(Letters(), StopStrings(["bc"]))
    assert [output.push(ord(letter)) for letter in "abc"] == [("", None), ("a", None), ("", None)]
    assert output.flush() == ("", "bc")


def test_the_first_tokens_are_not_searched() -> None:
    output = TextOutput(Letters(), StopStrings(["a"]), unchecked=2)
    assert [output.push(ord(letter))[1] for letter in "aaa"] == [None, None, "a"]
