"""A damaged store says what is wrong, and gets rid of it by its own commands."""

from pathlib import Path

import pytest

from services.runtime.errors import ModelNotFound, PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore


def publish(store: ModelStore) -> Manifest:
    with store.publish("net") as draft:
        (draft.directory / "model.safetensors").write_bytes(b"weights")
        draft.fields.update(tasks=["vision.classify"], architecture="net")
    assert draft.published is not None
    return draft.published


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_a_damaged_version_is_removed_and_replaced(store: ModelStore) -> None:
    for damage in ("tasks = [", None):
        manifest = publish(store)
        path = store.directory(manifest) / "model.toml"
        path.write_text(damage) if damage else path.unlink()
        store.remove("net", manifest.version)
        assert not (store.root / "net").exists()


def test_what_is_damaged_keeps_its_number_and_its_label_until_both_are_dropped(store: ModelStore) -> None:
    publish(store), publish(store)
    store.set_label("net", "stable", 2)
    (store.root / "net" / "2" / "model.toml").unlink()
    assert store.versions("net") == [1] and publish(store).version == 3
    store.remove("net", 1), store.remove("net", 3)
    assert store.names() == []
    with pytest.raises(PreconditionFailed, match="stable"):
        store.remove("net", 2)
    store.set_label("net", "stable", None)
    store.remove("net", 2)
    assert not (store.root / "net").exists()


def test_files_of_others_beside_the_last_version_stay(store: ModelStore) -> None:
    publish(store)
    (store.root / "net" / "notes").write_text("mine")
    store.remove("net", 1)
    assert [path.name for path in (store.root / "net").iterdir()] == ["notes"]


@pytest.mark.parametrize(("name", "version"), [("net", 2), ("net", 0), ("net", -1), ("../models/net", 1)])
def test_what_is_not_there_is_not_removed(store: ModelStore, name: str, version: int) -> None:
    publish(store)
    with pytest.raises(ModelNotFound):
        store.remove(name, version)
    assert store.versions("net") == [1]


@pytest.mark.parametrize("content", [b"stable = 'x", b"stable = 'x'", b"stable = true", b"\xff"])
def test_broken_labels_are_told_where_they_matter(store: ModelStore, content: bytes) -> None:
    publish(store)
    (store.root / "net" / "labels.toml").write_bytes(content)
    assert store.resolve("net").version == store.resolve("net", "1").version == 1
    for use in (lambda: store.resolve("net", "stable"), lambda: store.set_label("net", "a", 1)):
        with pytest.raises(DamagedModel, match=r"net/labels\.toml is unreadable.*delete it"):
            use()
    with pytest.raises(DamagedModel, match="labels"):
        store.remove("net", 1)


def test_a_broken_card_is_told(store: ModelStore) -> None:
    manifest = publish(store)
    (store.directory(manifest) / "card.json").write_text("{")
    with pytest.raises(DamagedModel, match=r"net/1/card\.json is unreadable"):
        store.card(manifest)
