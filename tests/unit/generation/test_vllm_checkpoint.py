"""The folder that vLLM reads, and what is kept of it. And which device goes with which backend."""

import json
import shutil
from pathlib import Path

import pytest

from services.generation.backends.vllm.checkpoint import FOLDERS, prepare
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore


def published(store: ModelStore, name: str, architecture: str = "MistralForCausalLM") -> Manifest:
    with store.publish(name) as draft:
        (draft.directory / "model.safetensors").write_bytes(name.encode())
        draft.fields.update(tasks=["generation.generate"], architecture=architecture, config={"head_dim": 64})
    assert draft.published is not None
    return draft.published


def test_a_version_becomes_a_folder_of_links(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    manifest = published(store, "tiny")
    folder = prepare(manifest, store.directory(manifest), store)
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "mistral" and config["architectures"] == ["MistralForCausalLM"]
    assert config["head_dim"] == 64 and config["sliding_window"] is None
    assert {path.name for path in folder.iterdir()} == {"config.json", *manifest.files}
    moved = (tmp_path / "store").rename(tmp_path / "elsewhere")
    assert (moved / FOLDERS / folder.name / "model.safetensors").read_bytes() == b"tiny"


def test_it_is_made_whole_again_and_goes_with_its_version(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    kept, gone = published(store, "kept"), published(store, "gone")
    folders = [prepare(one, store.directory(one), store) for one in (kept, gone)]
    (folders[0] / "config.json").unlink()
    shutil.rmtree(store.root / "gone")
    assert prepare(kept, store.directory(kept), store) == folders[0]
    assert (folders[0] / "config.json").is_file() and not folders[1].exists()
    assert store.names() == ["kept"]


def test_an_architecture_it_does_not_have_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    manifest = published(store, "odd", "OddForCausalLM")
    with pytest.raises(PreconditionFailed, match="OddForCausalLM"):
        prepare(manifest, store.directory(manifest), store)
