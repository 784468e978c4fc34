"""`maas models label` and `maas models rollback` over a store made on the spot."""

import re
from pathlib import Path

import pytest

from services.runtime.errors import ModelNotFound, PreconditionFailed
from services.runtime.store.desired import Choice, Desired
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore
from tests.unit.cli.test_models import models, raise_from
from tests.unit.runtime.test_host import publish


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Three versions of `net`."""
    found = ModelStore(tmp_path / "store")
    for number in (1, 2, 3):
        publish(found, "net", a=number)
    return found


def said(store: ModelStore, *arguments: str) -> str:
    done = models(store.root, *arguments)
    assert done.exit_code == 0, done.output
    return re.sub(r"\s+", " ", done.stdout)


def test_a_label_is_set_moved_and_dropped_and_the_effect_told(store: ModelStore) -> None:
    assert "net: canary → 2; calls without a version get 3" in said(store, "label", "net", "canary", "2")
    told = said(store, "label", "net", "stable", "canary")
    assert "canary → 2, stable → 2; calls without a version get 2" in told
    assert "canary → 2; calls without a version get 3" in said(store, "label", "net", "stable")
    assert "no labels; calls without a version get 3" in said(store, "label", "net", "canary")
    with pytest.raises(ModelNotFound, match="available: 1, 2, 3"):
        raise_from(models(store.root, "label", "net", "stable", "7"))


def test_each_rollback_goes_one_version_further_back(store: ModelStore) -> None:
    assert "stable → 2; calls without a version got 3, now get 2" in said(store, "rollback", "net")
    assert store.labels("net") == {"stable": 2}
    assert "stable → 1; calls without a version got 2, now get 1" in said(store, "rollback", "net")
    with pytest.raises(PreconditionFailed, match=r"net/1 answers.*versions: 1, 2, 3"):
        raise_from(models(store.root, "rollback", "net"))
    assert store.labels("net") == {"stable": 1}


def test_a_rollback_to_a_named_version(store: ModelStore) -> None:
    assert "stable → 1" in said(store, "rollback", "net", "--to", "1")
    assert "got 1, now get 3" in said(store, "rollback", "net", "--to", "3")
    assert "nothing moved" in said(store, "rollback", "net", "--to", "3")


def test_a_rollback_passes_over_removed_versions(store: ModelStore) -> None:
    store.remove("net", 2)
    assert "stable → 1" in said(store, "rollback", "net")


def test_a_rollback_starts_from_what_was_loaded_by_hand_and_takes_it_back(store: ModelStore) -> None:
    store.set_label("net", "stable", 1)
    desired = Desired(store.root, "vision")
    desired.write("net", Choice(2, 3))
    assert "got 2, now get 1" in said(store, "rollback", "net")
    assert desired.choice("net") is None


def test_nothing_moves_to_a_damaged_version(store: ModelStore) -> None:
    (store.root / "net" / "2" / "weights.bin").write_bytes(b"changed")
    with pytest.raises(DamagedModel, match="net/2"):
        raise_from(models(store.root, "rollback", "net"))
    assert store.labels("net") == {}


def test_an_unknown_model_is_named(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound, match="nope"):
        raise_from(models(store.root, "rollback", "nope"))


def test_a_rollback_from_a_version_whose_manifest_is_damaged(store: ModelStore) -> None:
    (store.root / "net" / "3" / "model.toml").write_text("tasks = 3")
    assert "got 2, now get 1" in said(store, "rollback", "net")
    assert "got 1, now get 2" in said(store, "rollback", "net", "--to", "2")


def test_a_label_of_an_unloaded_model_says_that_nothing_answers(store: ModelStore) -> None:
    desired = Desired(store.root, "vision")
    desired.write("net", Choice(None, 3))
    assert "canary → 1; calls without a version get nothing" in said(store, "label", "net", "canary", "1")
    assert "canary → 1, stable → 2; calls without a version get 2" in said(store, "label", "net", "stable", "2")
    desired.write("net", Choice(None, 3))
    assert "got 2, now get 1" in said(store, "rollback", "net")
