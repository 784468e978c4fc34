"""The store's law: what is published is whole, verified, named safely and never changes."""

import errno
import threading
from pathlib import Path

import pytest

from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed
from services.runtime.store.manifest import Manifest, TokenizerSpec
from services.runtime.store.manifest_file import DamagedModel
from services.runtime.store.store import ModelStore

FIELDS = {
    "tasks": ["vision.classify"],
    "architecture": "net",
    "config": {"eps": 1e-5, "none": None, "n": [1, 2]},
}


def publish(store: ModelStore, name: str = "net", content: bytes = b"weights") -> Manifest:
    with store.publish(name) as draft:
        (draft.directory / "model.safetensors").write_bytes(content)
        draft.fields.update(FIELDS)
        draft.card["accuracy"] = 0.5
    assert draft.published is not None
    return draft.published


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def test_an_empty_store_has_no_names(store: ModelStore) -> None:
    assert store.names() == []
    with pytest.raises(ModelNotFound, match="available: none"):
        store.resolve("net")


def test_published_versions_count_up_and_read_back_equal(store: ModelStore) -> None:
    first, second = publish(store), publish(store, content=b"other")
    assert (first.version, second.version) == (1, 2)
    assert store.names() == ["net"] and store.versions("net") == [1, 2]
    assert store.manifest("net", 1) == first and store.manifest("net", 1).digest == first.digest
    assert first.digest != second.digest
    assert (store.directory(second) / "model.safetensors").read_bytes() == b"other"


def test_a_manifest_with_every_field_keeps_its_digest_on_disk(store: ModelStore) -> None:
    spec = TokenizerSpec(chat_template='{{ "a\\n" }}\r\n\tend', bos_token="<s>", max_length_tokens=8)
    with store.publish("net") as draft:
        draft.fields.update(FIELDS, tokenizer=spec.model_dump(), limits={"rows": 3}, preprocessing={"mean": [0.5]})
    assert draft.published == store.resolve("net")
    assert store.resolve("net").tokenizer == spec


def test_resolve_takes_latest_number_and_label(store: ModelStore) -> None:
    publish(store), publish(store, content=b"other")
    store.set_label("net", "stable", 1)
    assert [store.resolve("net", v).version for v in ("", "latest", "1", "2", "stable")] == [2, 2, 1, 2, 1]


@pytest.mark.parametrize("version", ["3", "canary", "01x", "-1", "²", "1/../2"])
def test_resolve_names_what_exists(store: ModelStore, version: str) -> None:
    publish(store)
    store.set_label("net", "stable", 1)
    with pytest.raises(ModelNotFound, match="available: 1, stable"):
        store.resolve("net", version)


@pytest.mark.parametrize(
    "name", ["../net", "/etc", "..", "", ".staging", "net/1", "Net", "net\n", "a" * 64, "n\0t"]
)
def test_no_name_leads_out_of_the_store(store: ModelStore, name: str) -> None:
    publish(store)
    with pytest.raises(ModelNotFound, match="available: net"):
        store.resolve(name)
    with pytest.raises(InvalidInput, match="model"), store.publish(name):
        pytest.fail("an unsafe name was accepted")


def test_a_linked_model_or_version_is_not_there(store: ModelStore, tmp_path: Path) -> None:
    publish(store)
    (store.root / "alias").symlink_to(store.root / "net")
    (store.root / "net" / "2").symlink_to(store.root / "net" / "1")
    assert store.names() == ["net"] and store.versions("net") == [1] and store.versions("alias") == []


def test_verify_passes_then_tells_a_changed_file(store: ModelStore) -> None:
    manifest = publish(store)
    store.verify(manifest)
    path = store.directory(manifest) / "model.safetensors"
    path.write_bytes(b"Weights")
    with pytest.raises(DamagedModel, match=r"net/1: model\.safetensors has sha256"):
        store.verify(manifest)
    path.unlink()
    with pytest.raises(DamagedModel, match="missing"):
        store.verify(manifest)


def test_verify_refuses_a_link_to_equal_bytes(store: ModelStore, tmp_path: Path) -> None:
    manifest = publish(store)
    path = store.directory(manifest) / "model.safetensors"
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedModel, match="not a regular file"):
        store.verify(manifest)


def test_verify_refuses_a_manifest_that_points_outside(store: ModelStore) -> None:
    manifest = publish(store)
    with pytest.raises(InvalidInput, match=r"\.\."):
        store.verify(manifest.model_copy(update={"files": {"../../secret": "0" * 64}}))


def test_a_manifest_that_lies_about_its_place_is_damaged(store: ModelStore) -> None:
    manifest = publish(store)
    path = store.directory(manifest) / "model.toml"
    path.write_text(path.read_text().replace('name = "net"', 'name = "cat"'))
    with pytest.raises(DamagedModel, match="says cat/1"):
        store.resolve("net")
    path.write_text("tasks = 3")
    with pytest.raises(DamagedModel, match="unreadable"):
        store.resolve("net")


def test_a_failing_publisher_leaves_nothing(store: ModelStore) -> None:
    with pytest.raises(RuntimeError), store.publish("net") as draft:
        (draft.directory / "model.safetensors").write_bytes(b"half")
        raise RuntimeError
    assert store.names() == [] and list((store.root / ".staging").iterdir()) == []


def test_a_bad_field_is_named_and_nothing_published(store: ModelStore) -> None:
    with pytest.raises(InvalidInput, match=r"tasks\.0"), store.publish("net") as draft:
        draft.fields.update(FIELDS, tasks=["vision.paint"])
    assert store.versions("net") == []


def test_a_link_in_a_draft_is_refused(store: ModelStore) -> None:
    with pytest.raises(InvalidInput, match="regular file"), store.publish("net") as draft:
        (draft.directory / "model.safetensors").symlink_to("/etc/hostname")
        draft.fields.update(FIELDS)
    assert store.versions("net") == []


def test_two_publishers_get_two_versions(store: ModelStore) -> None:
    threads = [threading.Thread(target=publish, args=(store, "net", bytes([i]))) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert store.versions("net") == list(range(1, 9))


def test_labels_follow_only_published_versions(store: ModelStore) -> None:
    publish(store)
    store.set_label("net", "stable", 1)
    assert store.labels("net") == {"stable": 1}
    with pytest.raises(ModelNotFound, match="net/2"):
        store.set_label("net", "stable", 2)
    for label in ("latest", "7", "A", "a b", ""):
        with pytest.raises(InvalidInput, match="label"):
            store.set_label("net", label, 1)
    store.set_label("net", "stable", None)
    assert store.labels("net") == {}


def test_the_card_changes_without_the_digest(store: ModelStore) -> None:
    manifest = publish(store)
    assert store.card(manifest) == {"accuracy": 0.5}
    store.set_card(manifest, {"accuracy": 0.9})
    assert store.card(manifest) == {"accuracy": 0.9}
    assert store.resolve("net").digest == manifest.digest
    store.verify(manifest)


def test_remove_spares_the_labelled_and_takes_the_rest(store: ModelStore) -> None:
    publish(store), publish(store)
    store.set_label("net", "stable", 1)
    with pytest.raises(PreconditionFailed, match="stable"):
        store.remove("net", 1)
    store.remove("net", 2)
    assert store.versions("net") == [1]
    store.set_label("net", "stable", None)
    store.remove("net", 1)
    assert store.names() == [] and not (store.root / "net").exists()
    with pytest.raises(ModelNotFound):
        store.remove("net", 1)


def test_the_number_of_a_removed_version_is_never_given_again(store: ModelStore) -> None:
    publish(store), publish(store)
    store.remove("net", 2)
    assert publish(store).version == 3
    for version in (1, 3):
        store.remove("net", version)
    assert publish(store).version == 4
    store.remove("net", 4)
    assert publish(store, "other").version == 1


def test_a_model_that_is_removed_while_it_is_looked_at_has_no_versions(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.store.publish.real_directory", lambda path: True)
    assert store.versions("net") == []


def test_a_full_disk_keeps_nothing_from_being_removed(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    publish(store)
    monkeypatch.setattr("services.runtime.store.publish.replace", full)
    store.remove("net", 1)
    assert store.names() == []
