"""What is foretold, and when it is worth a row."""

from services.generation.engine.drafts import MOST, Drafter


def full(rows: int) -> float:
    """What their rows cost of passes of so many."""
    return rows / (rows + 6)


def grown(tokens: list[int], start: int = 3) -> Drafter:
    """A drafter that has seen the text grow token by token."""
    drafter = Drafter()
    for end in range(start, len(tokens) + 1):
        drafter.propose(tokens[:end], full(1), MOST)
    return drafter


def test_nothing_is_foretold_of_what_never_occurred() -> None:
    assert grown(list(range(50))).propose([*range(50), 60], full(1), MOST) == []


def test_a_full_pass_has_no_row_for_guesses_that_have_not_come_true_yet() -> None:
    text = [1, 2, 3, 4, 5] * 2
    drafter = Drafter()
    assert drafter.propose(text, full(16), MOST) == []
    for end in range(1, 6):
        text.append(end)
        drafter.propose(text, full(16), MOST)
    assert drafter.propose([*text, 1], full(16), MOST) != []


def test_three_tokens_that_occurred_say_more_than_two() -> None:
    text = [1, 2, 3, 40, 9, 2, 3, 50, 1, 2, 3]
    assert grown(text).propose(text, full(1), 1) == [40]
    assert grown(text).propose([*text[:-3], 8, 2, 3], full(1), 1) == [50]


def test_a_loop_is_continued_past_its_end() -> None:
    text = [1, 2, 3, 4] * 10
    assert grown(text).propose(text, full(1), MOST) == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]
    same = [9] * 30
    assert grown(same).propose(same, full(1), MOST) == [9] * MOST


def test_a_passage_is_quoted_from_where_it_stood_last() -> None:
    text = [*range(40), 90, 91, 92, 50, 51, 52, 53, 54, 55, 56, 57, 58, 90, 91, 92, 50, 51, 52]
    assert grown(text).propose(text, full(1), 4) == [53, 54, 55, 56]


def test_the_fuller_the_pass_the_surer_a_guess_must_be() -> None:
    text = [1, 2, 3, 4] * 10
    lengths = [len(grown(text).propose(text, full(rows), MOST)) for rows in (1, 8, 16, 32, 2000)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == MOST
    assert lengths[-1] == 0


def test_a_guess_that_fails_costs_trust() -> None:
    text = [1, 2, 3, 4] * 10
    drafter = grown(text)
    for stray in range(100, 140):  # whatever the loop foretells, something else comes
        for token in (1, 2, 3, stray):
            text.append(token)
            drafter.propose(text, full(1), MOST)
    assert drafter.propose([*text, 1, 2, 3], full(8), MOST) == []


def test_no_more_than_asked_for() -> None:
    text = [1, 2, 3, 4] * 10
    assert grown(text).propose(text, full(1), 0) == []
    assert grown(text).propose(text, full(1), -3) == []
    assert len(grown(text).propose(text, full(1), 2)) == 2
