"""`maas models …` over a store made on the spot."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.__main__ import app
from services.runtime.errors import InvalidInput, ModelNotFound, PreconditionFailed
from services.runtime.store.store import ModelStore

MANIFEST = """
tasks = ["vision.classify"]
architecture = "mnist_cnn"
[options]
labels = ["zero", "one"]
"""


def models(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments, "--store", str(store)])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two versions of `net`, imported from an .npz with a manifest beside it."""
    np.savez(tmp_path / "w.npz", w=np.ones(3, np.float32))
    (tmp_path / "fields.toml").write_text(MANIFEST)
    source = ("import", str(tmp_path / "w.npz"), "net", "--manifest", str(tmp_path / "fields.toml"))
    for _ in range(2):
        assert models(tmp_path / "store", *source).exit_code == 0
    return tmp_path / "store"


def test_import_publishes_what_the_file_and_the_manifest_say(store: Path) -> None:
    manifest = ModelStore(store).resolve("net")
    assert manifest.version == 2 and manifest.labels == "labels.txt" and manifest.architecture == "mnist_cnn"
    assert manifest.provenance.source.endswith("w.npz")


def test_list_shows_versions_and_what_could_be_pulled(store: Path) -> None:
    told = json.loads(models(store, "list", "--json").stdout)
    assert [(entry["model"], entry["version"]) for entry in told] == [("net", "1"), ("net", "2")]
    assert "smollm2-135m-instruct" in models(store, "list").stdout


def test_a_damaged_version_is_listed_as_such_beside_the_others(store: Path) -> None:
    (store / "net" / "1" / "model.toml").write_text("tasks = 3")
    told = json.loads(models(store, "list", "--json").stdout)
    assert [entry["digest"] == "damaged" for entry in told] == [True, False]


def test_show_prints_one_version(store: Path) -> None:
    told = json.loads(models(store, "show", "net", "1", "--json").stdout)
    assert told["version"] == 1 and told["card"] == {}
    assert "mnist_cnn" in models(store, "show", "net").stdout
    with pytest.raises(ModelNotFound, match="net/7"):
        raise_from(models(store, "show", "net", "7"))


def test_label_and_remove(store: Path) -> None:
    told = models(store, "label", "net", "stable", "1").stdout
    assert told == "net: stable → 1; calls without a version get 1\n"
    with pytest.raises(PreconditionFailed, match="stable"):
        raise_from(models(store, "remove", "net", "1"))
    assert models(store, "label", "net", "stable").stdout == "net: no labels; calls without a version get 2\n"
    assert models(store, "remove", "net", "1").exit_code == 0
    assert ModelStore(store).versions("net") == [2]


def test_verify_passes_then_names_the_changed_file(store: Path) -> None:
    assert models(store, "verify").stdout == "net/1 ok, 2 files\nnet/2 ok, 2 files\n"
    (store / "net" / "2" / "labels.txt").write_text("other\n")
    with pytest.raises(PreconditionFailed, match=r"net/2: labels\.txt"):
        raise_from(models(store, "verify", "net"))


def test_pull_wants_a_name_it_knows(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--all"):
        raise_from(models(store, "pull", "--cache", str(tmp_path)))
    with pytest.raises(ModelNotFound, match="silero-vad"):
        raise_from(models(store, "pull", "nope", "--cache", str(tmp_path)))


def raise_from(result: Result) -> None:
    assert result.exception is not None
    raise result.exception
