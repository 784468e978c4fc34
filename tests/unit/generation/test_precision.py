"""Which runner a version gets, and what is kept of it. With the real kernels on a tiny net."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from services.generation import eight_bits, figures, quality
from services.generation.eight_bits import PACKED
from services.generation.engine.kernel_runner import KernelRunner
from services.generation.engine.runner import ModelRunner
from services.generation.kernels import packing
from services.generation.models import registry
from services.generation.models.plain import PlainLM
from services.generation.precision import MOST_COST, _refuse_costly, prepare
from services.generation.prepare import served
from services.generation.settings import GenerationSettings
from services.runtime.compiled import NoCompiler
from services.runtime.errors import PreconditionFailed
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from tests.engine.tiny import CONFIG
from tests.needs import needs
from tests.unit.runtime.text.made import byte_level

ALIKE = {**CONFIG, "vocab_size": byte_level().get_vocab_size()}


def published(store: ModelStore, seed: int = 0, config: dict[str, Any] = ALIKE) -> Manifest:
    torch.manual_seed(seed)
    net = registry.build("LlamaForCausalLM", config)
    with store.publish("tiny") as draft:
        save_file(net.state_dict(), draft.directory / "model.safetensors")
        (draft.directory / "tokenizer.json").write_text(byte_level().to_str())
        draft.fields.update(
            tasks=["generation.generate"],
            architecture="LlamaForCausalLM",
            config=config,
            runner="engine",
            tokenizer={"file": "tokenizer.json"},
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


def test_what_eight_bits_cost_is_measured_once_and_kept_in_the_card(store: ModelStore) -> None:
    needs("g++")
    manifest = published(store)
    prepare(manifest, store.directory(manifest), settings(store, "auto")).runner.close()
    found = store.card(manifest)[figures.KEY]
    assert 0 < found["int8"]["divergence"] < MOST_COST and found["tokens"] > 1000
    assert 0 < found["int8"]["max_logprob_error"] < 1 and found["fp32"]["divergence"] == 0
    kept = {**found, "data": "mine"}
    store.set_card(manifest, {"loss": 1, figures.KEY: kept})
    prepare(manifest, store.directory(manifest), settings(store, "auto")).runner.close()
    assert store.card(manifest) == {"loss": 1, figures.KEY: kept}
    store.set_card(manifest, {"loss": 1, figures.KEY: {**kept, "packing": -1}})  # of another form of packing
    prepare(manifest, store.directory(manifest), settings(store, "auto")).runner.close()
    assert store.card(manifest) == {"loss": 1, figures.KEY: found}


def test_auto_is_fp32_where_eight_bits_cost_too_much_and_says_so(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    needs("g++")
    manifest = published(store)
    dear = {"divergence": MOST_COST * 1.5, "perplexity": 2.0, "max_logprob_error": 1.0}
    store.set_card(manifest, {figures.KEY: figures.told({"int8": dear}, "mine", 9, 9)})
    with caplog.at_level(logging.WARNING):
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and found.manifest.precision == "fp32"
    assert "eight bits cost 1.50% of perplexity on mine, 1% is the most" in caplog.text
    assert packed(store) == []
    forced = prepare(manifest, store.directory(manifest), settings(store, "int8"))
    assert isinstance(forced.runner, KernelRunner)
    forced.runner.close()


def test_a_shape_that_the_kernels_do_not_hold_is_fp32_and_said(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = published(store, config={**ALIKE, "head_dim": 8})
    with caplog.at_level(logging.WARNING):
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and "hold no net of the shape of tiny" in caplog.text
    with pytest.raises(PreconditionFailed, match="hold no net"):
        prepare(manifest, store.directory(manifest), settings(store, "int8"))


def test_where_nothing_can_be_written_auto_is_fp32(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    needs("g++")
    manifest = published(store)
    (store.root / PACKED).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and "computing in fp32" in caplog.text


def test_fp32_touches_no_kernel(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bits.build, "library", lambda folder: pytest.fail("built"))
    manifest = published(store)
    found = prepare(manifest, store.directory(manifest), settings(store, "fp32"))
    assert isinstance(found.runner, ModelRunner) and found.manifest.digest == manifest.digest


def test_without_kernels_auto_is_fp32_and_says_why_and_int8_is_refused(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(folder: Path) -> Path:
        raise NoCompiler("no g++ is on the PATH")

    monkeypatch.setattr(eight_bits.build, "library", absent)
    manifest = published(store)
    with caplog.at_level(logging.WARNING):
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and found.manifest.precision == "fp32"
    assert "no g++ is on the PATH" in caplog.text
    with pytest.raises(PreconditionFailed, match=r"int8 cannot be had: no g\+\+"):
        prepare(manifest, store.directory(manifest), settings(store, "int8"))


def test_the_digest_is_of_what_was_packed(store: ModelStore) -> None:
    """Replicas that packed otherwise must neither share answers nor go on with each other's streams."""
    needs("g++")
    manifest = published(store)

    def digest() -> str:
        found = prepare(manifest, store.directory(manifest), settings(store, "int8"))
        found.runner.close()
        return found.manifest.digest

    first = digest()
    assert digest() == first
    (file,) = packed(store)
    net = registry.load(manifest, store.directory(manifest))
    packing.write(PlainLM(net), file)  # as without a calibration
    assert digest() != first


def test_a_full_disk_or_a_damaged_packed_file_is_fp32_and_said(
    store: ModelStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("g++")
    manifest = published(store)

    def full(tensors: object, path: Path) -> None:
        raise SafetensorError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(packing, "save_file", full)
        found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and "No space left" in caplog.text and packed(store) == []
    prepare(manifest, store.directory(manifest), settings(store, "auto")).runner.close()
    (file,) = packed(store)
    file.write_bytes(b"no tensors")
    found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, ModelRunner) and "is damaged" in caplog.text


def test_a_damaged_version_of_another_model_is_no_hindrance(store: ModelStore) -> None:
    needs("g++")
    manifest = published(store)
    with store.publish("other") as draft:
        (draft.directory / "model.safetensors").write_bytes(b"x")
        draft.fields.update(tasks=["generation.generate"], runner="engine")
    (store.root / "other" / "1" / "model.toml").write_text("no manifest")
    found = prepare(manifest, store.directory(manifest), settings(store, "auto"))
    assert isinstance(found.runner, KernelRunner) and served(store) == [manifest]
    found.runner.close()


def test_numbers_that_are_none_are_too_dear() -> None:
    told = torch.tensor([[-1.0, math.nan]], dtype=torch.float64)
    assert math.isnan(quality._cost(told, told).divergence)
    with pytest.raises(PreconditionFailed, match="cost nan%"):
        dear = figures.told({"int8": figures.plain(quality._cost(told, told))}, "mine", 1, 1)
        _refuse_costly(dear, GenerationSettings(precision="auto"))
