"""Weights get in completely or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from services.runtime.errors import PreconditionFailed
from services.runtime.weights import load_weights, without_weights


@pytest.fixture
def source() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def saved(module: nn.Module, path: Path, **changes: torch.Tensor | None) -> Path:
    state = dict(module.state_dict()) | changes
    file = path / "model.safetensors"
    save_file({key: value for key, value in state.items() if value is not None}, file)
    return file


def test_all_tensors_arrive(source: nn.Module, tmp_path: Path) -> None:
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_weights(target, saved(source, tmp_path))
    assert all(torch.equal(target.state_dict()[key], value) for key, value in source.state_dict().items())


def test_a_module_without_weights_becomes_real(source: nn.Module, tmp_path: Path) -> None:
    with without_weights():
        target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_weights(target, saved(source, tmp_path))
    x = torch.randn(2, 3)
    assert torch.equal(target.eval()(x), source.eval()(x))


def test_renames_apply_in_order(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"old.fc.weight": torch.ones(2, 2), "old.fc.bias": torch.zeros(2)}, file)
    target = nn.ModuleDict({"linear": nn.Linear(2, 2)})
    load_weights(target, file, {r"^old\.": "", r"^fc\.": "linear."})
    assert torch.equal(target["linear"].weight, torch.ones(2, 2))


def test_ignored_keys_stay_out(source: nn.Module, tmp_path: Path) -> None:
    file = saved(source, tmp_path, **{"embeddings.position_ids": torch.arange(3)})
    load_weights(source, file, ignore=[r"position_ids$"])


def test_another_dtype_is_converted(source: nn.Module, tmp_path: Path) -> None:
    file = saved(source, tmp_path, **{"0.bias": torch.ones(4, dtype=torch.float16)})
    load_weights(source, file)
    assert source[0].bias.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"0.bias": None}, "missing: 0.bias"),
        ({"9.bias": torch.ones(1)}, "unexpected: 9.bias"),
        ({"0.bias": torch.ones(5)}, r"misshapen: 0.bias is \(5,\), wanted \(4,\)"),
    ],
)
def test_what_does_not_fit_is_named(
    source: nn.Module, tmp_path: Path, changes: dict[str, torch.Tensor | None], told: str
) -> None:
    with pytest.raises(PreconditionFailed, match=told):
        load_weights(source, saved(source, tmp_path, **changes))


def test_a_pickle_is_refused(source: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.save(source.state_dict(), file)
    with pytest.raises(PreconditionFailed, match="not a readable safetensors file"):
        load_weights(source, file)
