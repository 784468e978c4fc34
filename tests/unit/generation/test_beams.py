"""One step of a beam search at a time, on made-up offers."""

import pytest

from services.generation.engine.beams import BeamSearch, Offer
from services.generation.engine.request import Request, SamplingParams, Sequence, Stopping
from services.runtime.errors import InvalidInput
from tests.unit.generation.fakes import Silent

END, CONTEXT = 9, 100


def search(beams: int = 2, n: int = 1, penalty: float = 1.0, max_tokens: int = 50) -> BeamSearch:
    request = Request(
        (1, 2),
        SamplingParams(num_beams=beams, length_penalty=penalty),
        Stopping(max_tokens=max_tokens, eos_token_ids=frozenset([END])),
    )
    return BeamSearch([Sequence(request, index, Silent()) for index in range(n)])


def step(one: BeamSearch, *offers: dict[int, float]) -> list[list[int]]:
    """Offers token → score of each live beam; returns the outputs that live on."""
    for beam, offer in zip(one.live, offers, strict=True):
        beam.offer = Offer(list(offer), list(offer.values()), list(offer.values()))
    assert one.ready
    one.step(CONTEXT)
    return [beam.sequence.tokens[2:] for beam in one.live]


def kept(one: BeamSearch) -> list[tuple[list[int], float]]:
    return [(ended.beam.sequence.tokens[2:], round(ended.score, 6)) for ended in one.kept]


def test_the_best_of_all_beams_go_on_in_order() -> None:
    one = search(3)
    assert step(one, {3: -0.1, 4: -0.5, 5: -2.0, 6: -3.0}) == [[3], [4], [5]]
    assert step(one, {3: -1.0, 4: -5.0}, {3: -0.2, 4: -0.3}, {3: -0.1}) == [[4, 3], [4, 4], [3, 3]]
    assert not one.done and not one.kept


def test_an_end_counts_only_among_the_best_and_makes_room_for_another() -> None:
    one = search(2)
    assert step(one, {END: -0.1, 3: -0.2, 4: -0.4}) == [[3], [4]]
    assert kept(one) == [([END], -0.1)]
    assert step(one, {3: -0.1, 4: -0.2, END: -0.3}, {3: -0.4}) == [[3, 3], [3, 4]]
    assert step(one, {END: -0.1}, {END: -0.5, 3: -0.9}) == [[3, 4, 3]]
    assert len(one.kept) == 2  # of two ends the second was within the best two, too
    other = search(2)
    assert step(other, {3: -0.2, 4: -0.3}) == [[3], [4]]
    assert step(other, {END: -0.1, 3: -0.2}, {END: -0.3, 3: -0.4}) == [[3, 3], [4, 3]]
    assert kept(other) == [([3, END], -0.15)]


def test_it_goes_on_while_a_live_beam_is_better_than_the_worst_kept() -> None:
    one = search(2)
    step(one, {END: -1.0, 3: -1.1, 4: -1.2})
    assert step(one, {3: -0.01, END: -0.02}, {3: -3.0}) == [[3, 3], [4, 3]]
    assert kept(one) == [([3, END], -0.56), ([END], -1.0)] and not one.done
    step(one, {3: -2.0, 4: -2.5}, {3: -3.0})
    assert one.done and [beam.sequence.tokens[2:] for beam in one.best()] == [[3, END]]


@pytest.mark.parametrize(("penalty", "best"), [(0.0, [END]), (2.0, [3, END])])
def test_scores_are_divided_by_length_to_the_penalty(penalty: float, best: list[int]) -> None:
    one = search(2, penalty=penalty, max_tokens=2)
    step(one, {END: -1.0, 3: -1.1, 4: -1.2})
    step(one, {END: -0.5, 3: -0.9}, {3: -5.0})
    assert one.done and one.best()[0].sequence.tokens[2:] == best


def test_the_last_token_ends_every_beam() -> None:
    one = search(2, n=2, max_tokens=1)
    assert step(one, {3: -0.1, 4: -0.2, END: -0.3}) == []
    assert one.done and kept(one) == [([3], -0.1), ([4], -0.2)]


def test_a_beam_without_a_token_dies_and_the_last_one_takes_the_search_along() -> None:
    one = search(2)
    step(one, {3: -0.1, 4: -0.2})
    assert step(one, {}, {3: -1.0}) == [[4, 3]] and not one.done
    assert step(one, {}) == [] and one.done
    with pytest.raises(InvalidInput, match="no token is left"):
        one.best()
    few = search(2, n=2, max_tokens=1)
    step(few, {3: -0.1})
    with pytest.raises(InvalidInput, match="only 1 different"):
        few.best()


def test_every_old_sequence_is_named_once_those_that_end_first() -> None:
    one = search(2)
    step(one, {3: -0.1, 4: -0.2})
    before = [beam.sequence for beam in one.live]
    for beam, offer in zip(one.live, ({3: -5.0}, {3: -0.1, 4: -0.2}), strict=True):
        beam.offer = Offer(list(offer), list(offer.values()), list(offer.values()))
    families = one.step(CONTEXT)
    assert [parent for parent, _ in families] == before
    assert [[child.tokens[2:] for child in children] for _, children in families] == [[], [[4, 3], [4, 4]]]
