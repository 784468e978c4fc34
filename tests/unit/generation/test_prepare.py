"""What is done before a first start: for the versions that a service would load, and a fault leaves the others."""

import logging
from pathlib import Path

import pytest

from cli.prepare import make_ready
from services.generation import figures, prepare
from services.generation.eight_bits import PACKED
from services.runtime.store.store import ModelStore
from tests.needs import needs
from tests.unit.generation.test_precision import ALIKE, published


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def test_the_newest_and_the_labelled_versions_are_made_ready(store: ModelStore) -> None:
    first, _, third = (published(store, seed) for seed in range(3))
    store.set_label("tiny", "stable", 1)
    assert prepare.served(store) == [first, third]
    published(store, 4, {**ALIKE, "head_dim": 8})
    assert [manifest.version for manifest in prepare.served(store)] == [1, 4]


def test_a_process_packs_and_measures_and_says_so_once(
    store: ModelStore, capfd: pytest.CaptureFixture[str]
) -> None:
    needs("g++")
    manifest = published(store)
    make_ready(store)
    told = capfd.readouterr().err
    assert "packing weights in eight bits" in told and "tiny/1 is ready in int8" in told
    assert figures.of(manifest, store) and len(list((store.root / PACKED).glob("*.safetensors"))) == 1
    make_ready(store)
    assert capfd.readouterr().err == ""


def test_a_fault_is_said_and_does_not_stop_it(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    manifest = published(store)
    (store.directory(manifest) / "model.safetensors").write_bytes(b"no weights")
    prepare.main(["--store", str(store.root)])
    assert caplog.records[-1].getMessage().startswith("tiny: tiny/1: model.safetensors has sha256")


def test_damaged_weights_are_not_packed(store: ModelStore) -> None:
    """The packed file goes by the digest, and would still serve once the weights are mended."""
    needs("g++")
    manifest = published(store)
    file = store.directory(manifest) / "model.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    prepare.main(["--store", str(store.root)])
    assert not (store.root / PACKED).exists()


def test_a_damaged_version_is_left_to_the_service(store: ModelStore) -> None:
    manifest = published(store)
    (store.directory(manifest) / "model.toml").write_text("no manifest")
    make_ready(store)
