"""Requests known by their bytes: only the very same, only while the models stay, only so many."""

import pytest

from gateway.recall import LARGE_BYTES, Recall, Wire, wire
from gateway.versions import ModelIndex
from maas.model.v1 import model_pb2


def named(data: bytes, method: str = "/a/B", tenant: str = "") -> Wire:
    found = wire(method, tenant, data)
    assert found is not None
    return found


@pytest.fixture
def index() -> ModelIndex:
    found = ModelIndex()
    found.replace("vision", [model_pb2.Model(name="lite", version="1")])
    return found


def test_the_same_bytes_by_the_same_tenant_to_the_same_method(index: ModelIndex):
    recall = Recall(index)
    recall.learn(named(b"cat", tenant="t"), "key")
    assert recall.key(named(b"cat", tenant="t")) == "key"
    for other in (named(b"cat"), named(b"cat", tenant="u"), named(b"cat", "/a/C", "t"), named(b"car", tenant="t")):
        assert recall.key(other) is None


@pytest.mark.parametrize("change", ["update", "gone", "back"])
def test_a_change_of_any_model_forgets(index: ModelIndex, change: str):
    recall = Recall(index)
    recall.learn(named(b"cat"), "key")
    if change == "update":
        index.update("vision", model_pb2.Model(name="lite", version="2"))
    else:
        index.replace("vision", [])
    if change == "back":
        index.replace("vision", [model_pb2.Model(name="lite", version="1")])
    assert recall.key(named(b"cat")) is None
    recall.learn(named(b"cat"), "other")
    assert recall.key(named(b"cat")) == "other"


def test_the_same_list_again_forgets_nothing(index: ModelIndex):
    recall = Recall(index)
    recall.learn(named(b"cat"), "key")
    index.replace("vision", [model_pb2.Model(name="lite", version="1")])
    assert recall.key(named(b"cat")) == "key"


def test_the_first_learnt_goes_when_there_are_too_many(index: ModelIndex):
    recall = Recall(index, places=2)
    for number in range(3):
        recall.learn(named(bytes([number])), str(number))
    assert [recall.key(named(bytes([number]))) for number in range(3)] == [None, "1", "2"]


def test_what_is_too_large_to_hash_meanwhile_is_not_known():
    assert wire("/a/B", "", bytes(LARGE_BYTES)) is not None
    assert wire("/a/B", "", bytes(LARGE_BYTES + 1)) is None
