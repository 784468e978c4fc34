"""Which runner a version gets, and what is kept of it. With the real kernels on a tiny net."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from services.generation import precision
from services.generation.engine.kernel_runner import KernelRunner
from services.generation.engine.runner import ModelRunner
from services.generation.precision import PACKED, prepare
from services.generation.settings import GenerationSettings
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.engine.tiny import CONFIG, tiny_model
from tests.needs import needs


def published(store: ModelStore, seed: int = 0) -> Manifest:
    with store.publish("tiny") as draft:
        save_file(tiny_model(seed).state_dict(), draft.directory / "model.safetensors")
        draft.fields.update(
            tasks=["generation.generate"], architecture="LlamaForCausalLM", config=CONFIG, runner="engine"
        )
    assert draft.published is not None
    return draft.published


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(tmp_path / "store")


def settings(store: ModelStore, wanted: str, **more: object) -> GenerationSettings:
    return GenerationSettings(store=store.root, precision=wanted, kv_cache_mib=16, **more)  # type: ignore[arg-type]


def packed(store: ModelStore) -> list[Path]:
    return sorted((store.root / PACKED).glob("*"))


def test_auto_is_int8_by_another_digest_and_packs_once(store: ModelStore) -> None:
    needs("g++")
    manifest = published(store)
    first = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(first.runner, KernelRunner)
    assert first.manifest.precision == "int8" and first.manifest.digest != manifest.digest
    (file,) = packed(store)
    made = file.stat().st_mtime_ns
    prepare(manifest, store.directory(manifest), settings(store, "int8")).runner.close()
    assert packed(store) == [file] and file.stat().st_mtime_ns == made
    first.runner.close()


def test_what_was_packed_of_a_removed_version_goes_with_the_next_packing(store: ModelStore) -> None:
    needs("g++")
    for seed in (0, 1):
        manifest = published(store, seed)
        prepare(manifest, store.directory(manifest), settings(store, "int8")).runner.close()
    (old, kept) = sorted(packed(store), key=lambda path: path.stat().st_mtime_ns)
    store.remove("tiny", 1)
    newest = published(store, 2)
    prepare(newest, store.directory(newest), settings(store, "int8")).runner.close()
    assert old not in packed(store) and kept in packed(store) and len(packed(store)) == 2


def test_fp32_touches_no_kernel(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.build, "library", lambda folder: pytest.fail("built"))
    manifest = published(store)
    found = prepare(manifest, store.directory(manifest), settings(store, "fp32"))
    assert isinstance(found.runner, ModelRunner) and found.manifest.digest == manifest.digest


def test_without_kernels_auto_is_fp32_and_says_why_and_int8_is_refused(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(folder: Path) -> Path:
        raise precision.build.NoCompiler("no g++ is on the PATH")

    monkeypatch.setattr(precision.build, "library", absent)
    manifest = published(store)
    with caplog.at_level(logging.WARNING):
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and found.manifest.precision == "fp32"
    assert "no g++ is on the PATH" in caplog.text
    with pytest.raises(PreconditionFailed, match=r"int8 cannot be had: no g\+\+"):
        prepare(manifest, store.directory(manifest), settings(store, "int8"))
