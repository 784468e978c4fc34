"""Which model a request means, and when that cannot be told."""

import asyncio

import pytest

from gateway.methods import SERVICES, by_request, methods_of
from gateway.versions import ModelIndex, Serving
from maas.generation.v1 import generation_service_pb2
from maas.model.v1 import model_pb2
from maas.sequence.v1 import sequence_service_pb2
from maas.vision.v1 import vision_service_pb2
from services.runtime.store.manifest import adapted_digest

METHODS = by_request(m for area, service in SERVICES.items() for m in methods_of(area, service))
CLASSIFY = METHODS["maas.vision.v1.ClassifyRequest"]


def model(name: str, version: int, state: str = "SERVING", default: str = "", label: str = "") -> model_pb2.Model:
    return model_pb2.Model(
        name=name,
        version=str(version),
        digest=f"{name}{version}",
        state=model_pb2.ModelState.Value(f"MODEL_STATE_{state}"),
        default_for=[default] if default else [],
        version_labels=[label] if label else [],
    )


def ask(model_name: str = "", version: str = "") -> vision_service_pb2.ClassifyRequest:
    return vision_service_pb2.ClassifyRequest(model=model_name, version=version)


@pytest.fixture
def index() -> ModelIndex:
    found = ModelIndex()
    old, new = model("lite", 1, "AVAILABLE"), model("lite", 2, default="vision.classify", label="stable")
    found.replace("vision", [old, new, model("mnist", 1)])
    return found


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ask(), Serving("lite", "2", "lite2")),
        (ask("lite"), Serving("lite", "2", "lite2")),
        (ask("lite", "2"), Serving("lite", "2", "lite2")),
        (ask("lite", "stable"), Serving("lite", "2", "lite2")),
        (ask("mnist"), Serving("mnist", "1", "mnist1")),
        (ask("lite", "1"), None),
        (ask("lite", "canary"), None),
        (ask("nope"), None),
    ],
)
def test_resolves_names_numbers_labels_and_defaults(
    index: ModelIndex, request_: vision_service_pb2.ClassifyRequest, expected: Serving | None
):
    assert index.resolve(CLASSIFY, request_) == expected


def test_a_service_that_has_not_told_resolves_nothing():
    assert ModelIndex().resolve(CLASSIFY, ask("lite")) is None


def test_two_versions_that_serve_are_no_ground_for_a_guess(index: ModelIndex):
    index.update("vision", model("lite", 3))
    assert index.resolve(CLASSIFY, ask("lite")) is None
    assert index.resolve(CLASSIFY, ask("lite", "3")) == Serving("lite", "3", "lite3")


def test_several_versions_serve_and_one_of_them_answers_unversioned_calls(index: ModelIndex):
    answering, canary = (
        model("lite", 2, default="vision.classify", label="stable"),
        model("lite", 3, label="canary"),
    )
    canary.default_for.append("vision.classify")
    answering.answers_unversioned = True
    index.replace("vision", [answering, canary])
    for name in ("", "lite"):
        assert index.resolve(CLASSIFY, ask(name)) == Serving("lite", "2", "lite2")
        assert index.resolve(CLASSIFY, ask(name, "canary")) == Serving("lite", "3", "lite3")
        assert index.canary(CLASSIFY, ask(name)) == Serving("lite", "3", "lite3")
    answering.state = model_pb2.MODEL_STATE_DRAINING
    index.update("vision", answering)
    canary.answers_unversioned = True
    index.update("vision", canary)
    assert index.resolve(CLASSIFY, ask()) == Serving("lite", "3", "lite3")
    assert index.resolve(CLASSIFY, ask("lite", "stable")) is None


def test_while_an_answer_moves_from_one_version_to_the_other_none_is_guessed(index: ModelIndex):
    one, other = model("lite", 1, label="stable"), model("lite", 2, label="stable")
    one.answers_unversioned = other.answers_unversioned = True
    index.replace("vision", [one, other])
    assert index.resolve(CLASSIFY, ask("lite")) is None
    assert index.resolve(CLASSIFY, ask("lite", "stable")) is None
    assert index.canary(CLASSIFY, ask("lite")) is None


def test_two_defaults_of_one_task_are_no_ground_for_a_guess(index: ModelIndex):
    index.update("vision", model("mnist", 1, default="vision.classify"))
    assert index.resolve(CLASSIFY, ask()) is None


def test_a_models_change_moves_the_answer(index: ModelIndex):
    index.update("vision", model("lite", 2, "DRAINING"))
    index.update("vision", model("lite", 3, default="vision.classify"))
    assert index.resolve(CLASSIFY, ask()) == Serving("lite", "3", "lite3")


def test_text_and_series_have_defaults_of_their_own():
    index = ModelIndex()
    index.replace("sequence", [model("vad", 1, default="sequence.classify")])
    method = METHODS["maas.sequence.v1.ClassifyRequest"]
    series = sequence_service_pb2.ClassifyRequest(series={"values": [{"values": [0.0]}]})
    text = sequence_service_pb2.ClassifyRequest(texts={"values": ["a"]})
    assert index.resolve(method, series) == Serving("vad", "1", "vad1")
    assert index.resolve(method, text) is None
    index.update("sequence", model("bert", 1, default="sequence.classify.text"))
    assert index.resolve(method, text) == Serving("bert", "1", "bert1")


def test_a_new_list_tells_only_what_differs():
    told: list[str] = []
    index = ModelIndex(lambda changed: told.append(changed.name))
    index.replace("vision", [model("lite", 1), model("mnist", 1)])
    index.replace("vision", [model("lite", 1, label="stable"), model("mnist", 1)])
    assert told == ["lite", "mnist", "lite"]
    index.replace("vision", [model("mnist", 1)])
    assert told == ["lite", "mnist", "lite", "lite"]
    assert index.names() == ["mnist"] and index.areas_of("lite") == []


def test_every_unary_request_type_names_one_method():
    unary = [
        m
        for area, service in SERVICES.items()
        for m in methods_of(area, service)
        if not (m.client_streaming or m.server_streaming)
    ]
    assert len(METHODS) == len(unary)
    for method in unary:
        if method.remembers:
            assert method.task(method.request()).startswith(f"{method.area}.")


async def test_changes_end_also_for_those_who_come_after_the_end():
    index = ModelIndex()
    with index.changes() as before:
        index.update("vision", model("lite", 1))
        index.end_watches()
        async with asyncio.timeout(5):
            assert [changed.name async for changed in before] == ["lite"]
    with index.changes() as after:
        async with asyncio.timeout(5):
            assert [changed.name async for changed in after] == []


def test_an_adapter_is_part_of_what_is_meant():
    index, method = ModelIndex(), METHODS["maas.generation.v1.GenerateRequest"]
    old, new = model("pirate", 1), model("pirate", 2)
    new.answers_unversioned = True
    index.replace("generation", [model("small", 1, default="generation.generate"), old, new])

    def digest(**asked: str) -> str | None:
        found = index.resolve(method, generation_service_pb2.GenerateRequest(text="x", **asked))
        assert found is None or (found.model, found.version) == ("small", "1")
        return found and found.digest

    assert digest() == "small1"
    assert digest(adapter="pirate") == digest(adapter="pirate@2") == adapted_digest("small1", "pirate2")
    assert digest(adapter="pirate@1") == adapted_digest("small1", "pirate1")
    assert digest(adapter="ghost") is digest(adapter="pirate@3") is None
    new.state = model_pb2.MODEL_STATE_DRAINING
    index.update("generation", new)
    newest = model("pirate", 3)
    newest.answers_unversioned = True
    index.update("generation", newest)
    assert digest(adapter="pirate") == adapted_digest("small1", "pirate3")
