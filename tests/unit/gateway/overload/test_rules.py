"""Every method of every contract has the rule that it should have."""

import pytest

from gateway.methods import SERVICES, methods_of
from gateway.overload.priority import Priority, places, priority_of
from gateway.overload.rules import Rule, way_of
from services.runtime.errors import InvalidInput

TWICE = {
    "tokenization": {"Tokenize", "Detokenize", "CountTokens", "RenderChat"},
    "vision": {"Classify", "Embed"},
    "sequence": {"Classify", "Embed", "Forecast", "Transduce"},
    "generation": set(),
}


@pytest.mark.parametrize("area", SERVICES)
def test_streams_and_generations_are_long_and_only_short_functions_go_twice(area: str) -> None:
    for method in methods_of(area, SERVICES[area]):
        long = (
            method.server_streaming or method.client_streaming or area == "generation" or method.name == "Explain"
        )
        assert way_of(method.path).rule is (Rule.LONG if long else Rule.SHORT), method.path
        assert way_of(method.path).twice == (method.name in TWICE[area]), method.path
        assert not (way_of(method.path).twice and (long or method.stateful))


@pytest.mark.parametrize(
    ("method", "rule"),
    [("ModelInfer", Rule.SHORT), ("ModelStreamInfer", Rule.LONG), ("ServerReady", Rule.FREE)],
)
def test_of_the_open_protocol_only_inference_is_held_up(method: str, rule: Rule) -> None:
    way = way_of(f"/inference.GRPCInferenceService/{method}")
    assert way.rule is rule and not way.twice


def test_administration_is_free() -> None:
    assert way_of("/maas.model.v1.ModelService/LoadModel").rule is Rule.FREE


@pytest.mark.parametrize(("limit", "kept"), [(1, (1, 1, 1)), (4, (4, 3, 2)), (8, (8, 7, 6)), (100, (100, 90, 75))])
def test_each_class_leaves_places_to_those_above(limit: int, kept: tuple[int, ...]) -> None:
    assert places(limit) == kept


def test_the_class_is_the_callers_word() -> None:
    assert priority_of({}) is Priority.DEFAULT
    assert priority_of({"x-maas-priority": "batch"}) is Priority.BATCH
    with pytest.raises(InvalidInput):
        priority_of({"x-maas-priority": "CRITICAL"})
