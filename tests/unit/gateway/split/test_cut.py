"""Which requests are cut, into what, and that nothing else of them changes."""

from typing import Any

import pytest

from gateway.methods import SERVICES, Method, methods_of
from gateway.split.cut import cut, items, parts_of
from gateway.versions import Serving

METHODS = {(m.area, m.name): m for area, service in SERVICES.items() for m in methods_of(area, service)}


def method(area: str, name: str) -> Method:
    return METHODS[area, name]


def found(area: str, name: str, **fields: Any) -> tuple[str, int]:
    one = method(area, name)
    return items(one, one.request(**fields))


def test_the_items_of_each_method() -> None:
    assert found("tokenization", "Tokenize", texts=["a", "b"]) == ("texts", 2)
    assert found("tokenization", "Tokenize", pairs=[{"first": "a"}]) == ("pairs", 1)
    assert found("tokenization", "CountTokens", texts=["a", "b"]) == ("texts", 2)
    assert found("vision", "Classify", images=[{}] * 3) == ("images", 3)
    assert found("vision", "Embed", images=[{}]) == ("images", 1)
    assert found("sequence", "Classify", series={"values": [{}] * 2}) == ("series.values", 2)
    assert found("sequence", "Embed", token_ids={"sequences": [{}] * 2}) == ("token_ids.sequences", 2)
    assert found("sequence", "Embed", texts={"values": ["a"] * 2}) == ("texts.values", 2)
    assert found("sequence", "Transduce", texts=["a"]) == ("texts", 1)


@pytest.mark.parametrize(
    ("area", "name", "fields"),
    [
        ("generation", "Generate", {"text": "a"}),
        ("sequence", "Forecast", {"series": {"values": [1.0, 2.0]}}),
        ("tokenization", "RenderChat", {"messages": [{"role": "user"}] * 3}),
        ("tokenization", "Tokenize", {}),
        ("tokenization", "Tokenize", {"texts": ["a"], "pairs": [{"first": "a"}]}),
        ("tokenization", "Tokenize", {"texts": ["a"], "padding": {}}),
        ("tokenization", "Tokenize", {"texts": ["a"], "padding": {"to": 1}}),
        ("tokenization", "Tokenize", {"texts": ["a"], "padding": {"to": 3, "length": 8}}),
    ],
)
def test_what_depends_on_its_neighbours_is_not_cut(area: str, name: str, fields: dict[str, Any]) -> None:
    assert found(area, name, **fields) == ("", 0)


def test_texts_padded_to_a_length_can_be() -> None:
    assert found("tokenization", "Tokenize", texts=["a"], padding={"to": 2, "length": 8}) == ("texts", 1)


@pytest.mark.parametrize(
    ("count", "most", "replicas", "parts"), [(33, 32, 4, 2), (64, 32, 4, 2), (256, 32, 3, 3), (33, 32, 1, 1)]
)
def test_no_more_parts_than_needed_nor_than_replicas(count: int, most: int, replicas: int, parts: int) -> None:
    assert parts_of(count, most, replicas) == parts


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_the_whole_in_order(count: int) -> None:
    embed = method("sequence", "Embed")
    whole = embed.request(model="m", texts={"values": [str(n) for n in range(7)]}, normalize=False, truncate=True)
    before = whole.SerializeToString()
    parts = cut(whole, "texts.values", count, None)
    assert whole.SerializeToString() == before
    read = [embed.request.FromString(part.body) for part in parts]
    assert [text for one in read for text in one.texts.values] == [str(n) for n in range(7)]  # type: ignore[attr-defined]
    assert [part.first for part in parts] == [int(one.texts.values[0]) for one in read]  # type: ignore[attr-defined]
    for one in read:
        one.texts.values[:] = whole.texts.values  # type: ignore[attr-defined]
        assert one == whole


def test_parts_are_pinned() -> None:
    classify = method("vision", "Classify")
    whole = classify.request(images=[{"encoded": b"a"}, {"encoded": b"b"}], top_k=3)
    for part in cut(whole, "images", 2, Serving("lite", "4", "digest")):
        one: Any = classify.request.FromString(part.body)
        assert (one.model, one.version, one.top_k, len(one.images)) == ("lite", "4", 3, 1)
