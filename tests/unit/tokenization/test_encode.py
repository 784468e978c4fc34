"""The budget of a reply: counted before a column is built, and between texts somebody still waits."""

from collections.abc import Sequence
from typing import Any

import pytest

from services.runtime.errors import DeadlinePassed, InvalidInput
from services.runtime.text.encoded import Encoded, Input
from services.runtime.text.padding import Padding, pad
from services.runtime.text.tokenizer import Tokenizer
from services.runtime.text.truncation import Truncation, truncate
from services.tokenization import encode
from services.tokenization.encode import Order
from services.tokenization.words import Words
from tests.unit.runtime.text.made import all_families

TOKENIZER = all_families()["word_piece"]
PAD = Padding("max", 0, "[PAD]", 131072)


def willing() -> None:
    """Somebody waits."""


class IdsAlone:
    """A tokenizer that has no columns to give."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner
        self.encoded = 0

    def encode_ids_batch(self, inputs: Sequence[Input], **options: Any) -> list[list[int]]:
        self.encoded += len(inputs)
        return self._inner.encode_ids_batch(inputs, **options)

    def encode_batch(self, inputs: Sequence[Input], **options: Any) -> list[Encoded]:
        raise AssertionError("columns were built")


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (Order(["a"] * 256, "texts", True, padding=PAD), "padding.length"),
        (Order(["x " * 2500] * 24, "texts", True, Truncation(1003, stride=1000)), "texts"),
        (Order(["x " * 2500] * 24, "texts", True, Truncation(1003, stride=1000), columns=True), "texts"),
        (Order([("x " * 900, "x " * 900)], "pairs", True, Truncation(43, stride=19)), "pairs"),
        (Order(["x " * 5000], "texts", True, Truncation(1000, stride=997)), "texts"),
        (Order(["x " * (1 << 17)] * 5, "texts", True, columns=True), "texts"),
        (Order(["x " * (1 << 19) + "x"], "texts", True, Truncation(9, overflowing=False)), "texts[0]"),
    ],
)
def test_a_reply_over_the_budget_is_refused_before_a_column_is_built(order: Order, field: str) -> None:
    with pytest.raises(InvalidInput, match=r"split the request|shorten it") as error:
        list(encode.encode(Words(IdsAlone(TOKENIZER)), order, willing))  # type: ignore[arg-type]
    assert error.value.violations[0].field == field


def test_ids_alone_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MAX_IDS", 100)
    monkeypatch.setattr(encode, "GROUP_CHARACTERS", 40)
    counted = IdsAlone(TOKENIZER)
    with pytest.raises(InvalidInput, match="over 100 tokens"):
        list(encode.bounded_ids(Words(counted), Order(["x " * 20] * 50, "texts", True), willing))  # type: ignore[arg-type]
    assert counted.encoded < 10


@pytest.mark.parametrize("family", sorted(all_families()))
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("inputs", [["the fox", "", "eating " * 9], [("the fox", "a b c d e"), ("", "x " * 9)]])
def test_a_few_at_a_time_give_what_the_whole_batch_gives(
    monkeypatch: pytest.MonkeyPatch, family: str, special: bool, inputs: list[Input]
) -> None:
    """Also checks that texts counted apart add up to the pair encoded together."""
    monkeypatch.setattr(encode, "GROUP_CHARACTERS", 8)
    tokenizer, rule, longest = all_families()[family], Truncation(8, stride=1), Padding("longest", 0, "p")
    field = "texts" if isinstance(inputs[0], str) else "pairs"
    words, whole = Words(tokenizer, 1 << 20), tokenizer.encode_batch(inputs, add_special_tokens=special)
    cut = [truncate(each, rule) for each in whole]
    assert list(encode.encode(words, Order(inputs, field, special, columns=True), willing)) == whole
    order = Order(inputs, field, special, rule, longest)
    assert list(encode.encode(words, order, willing)) == pad(cut, longest)
    uncut = Order(inputs, field, special, padding=longest)
    assert list(encode.encode(words, uncut, willing)) == pad(whole, longest)


@pytest.mark.parametrize("work", [encode.encode, encode.ids])
def test_between_texts_the_caller_is_asked_for(work: Any) -> None:
    asked = 0

    def leaving() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise DeadlinePassed("gone")

    counted = IdsAlone(TOKENIZER)
    with pytest.raises(DeadlinePassed):
        list(
            work(Words(counted), Order(["x" * encode.GROUP_CHARACTERS] * 50, "texts", True, columns=True), leaving)
        )
    assert counted.encoded <= 4
