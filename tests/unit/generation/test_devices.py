"""Which device and number format a version is computed in, and how what cannot be had is refused."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from services.generation import precision
from services.generation.engine import device
from services.generation.engine.runner import ModelRunner
from services.generation.precision import prepare
from services.generation.settings import GenerationSettings
from services.runtime.errors import PreconditionFailed
from services.runtime.settings import load
from services.runtime.store.store import ModelStore
from tests.unit.generation.test_precision import published, settings

NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("name", NARROW)
def test_weights_and_cache_are_of_the_precision(name: str, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    manifest = published(store)
    found, whole = (prepare(manifest, store.directory(manifest), settings(store, one)) for one in (name, "fp32"))
    assert isinstance(found.runner, ModelRunner) and isinstance(whole.runner, ModelRunner)
    tensors = [*found.runner.model.parameters(), *found.runner.cache.keys, *found.runner.cache.values]
    assert {tensor.dtype for tensor in tensors} == {NARROW[name]}
    assert found.manifest.precision == name and found.blocks == 2 * whole.blocks
    assert found.manifest.digest != whole.manifest.digest == manifest.digest


@pytest.mark.parametrize("name", ["cuda", "cuda:7"])
def test_a_device_out_of_reach_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    store = ModelStore(tmp_path / "store")
    manifest = published(store)
    wanted = settings(store, "auto", device=name)
    with pytest.raises(RuntimeError, match=f"^MAAS_DEVICE={name}: torch reaches 0 CUDA devices here"):
        prepare(manifest, store.directory(manifest), wanted)


def test_the_number_of_devices_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device.reached(name).index for name in ("cuda", "cuda:1")] == [None, 1]
    with pytest.raises(RuntimeError, match="MAAS_DEVICE=cuda:2: torch reaches 2 CUDA devices"):
        device.reached("cuda:2")


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert device.natural(torch.device("cuda:1")) == expected and device.natural(device.CPU) == "fp32"


def test_memory_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(precision, "KVCache", full)
    store = ModelStore(tmp_path / "store")
    manifest = published(store)
    with pytest.raises(PreconditionFailed, match="no room for the weights and MAAS_KV_CACHE_MIB=16; lower it"):
        prepare(manifest, store.directory(manifest), settings(store, "bf16"))


def test_the_eight_bit_kernels_are_for_cpus(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(GenerationSettings, ["--device", "cuda", "--precision", "int8"], "generation")
    assert "MAAS_PRECISION='int8': Value error, the eight-bit kernels are for CPUs; " in capsys.readouterr().err
    for wanted in ("auto", "bf16", "fp16", "fp32"):
        assert GenerationSettings(device="cuda:1", precision=wanted).precision == wanted  # type: ignore[arg-type]


def test_the_device_must_be_one_of_the_backends() -> None:
    for backend, name in (("engine", "cuda"), ("engine", "cuda:1"), ("vllm", "cuda")):
        assert GenerationSettings(backend=backend, device=name).device == name  # type: ignore[arg-type]
    for backend, name in (("vllm", "cuda:1"), ("engine", "mps"), ("engine", "cuda:x")):
        with pytest.raises(ValidationError, match=f"does not run on MAAS_DEVICE={name}, but on cpu"):
            GenerationSettings(backend=backend, device=name)  # type: ignore[arg-type]
