"""The manifest chooses the runner, settings may force one, and torch is imported only when it must run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.open import RunnerSettings, effective, open_runner
from services.runtime.runners.torch_runner import TorchRunner
from services.runtime.store.manifest import Manifest, TensorSpec


class Doubler(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x.sum(1, keepdim=True)


def build(manifest: Manifest, directory: Path) -> nn.Module:
    return Doubler()


def manifest(runner: str) -> Manifest:
    return Manifest(
        name="doubler",
        version=1,
        tasks=("vision.classify",),
        inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 3)),),
        outputs=(
            TensorSpec(name="double", dtype="float32", shape=(-1, 3)),
            TensorSpec(name="total", dtype="float32", shape=(-1, 1)),
        ),
        runner=runner,
    )


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A directory with a hand-made model.onnx of the Doubler."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1),
    ]
    floats = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 3), ("double", 3), ("total", 1))
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "doubler", floats[:1], floats[1:], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


@pytest.mark.parametrize("runner", ["torch", "onnxruntime"])
@pytest.mark.parametrize("rows", [1, 5])
def test_both_runners_name_their_outputs(exported: Path, runner: str, rows: int) -> None:
    opened = open_runner(manifest(runner), exported, build, RunnerSettings())
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    got = opened.run({"x": x})
    assert list(got) == ["double", "total"]
    np.testing.assert_array_equal(got["double"], x * 2)
    np.testing.assert_array_equal(got["total"], x.sum(1, keepdims=True))


def test_a_read_only_or_strided_input_is_fine(exported: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]
    x.setflags(write=False)
    for runner in ("torch", "onnxruntime"):
        got = open_runner(manifest(runner), exported, build, RunnerSettings()).run({"x": x})
        np.testing.assert_array_equal(got["double"], x * 2)


def test_a_closed_runner_says_so(exported: Path) -> None:
    for runner in ("torch", "onnxruntime"):
        opened = open_runner(manifest(runner), exported, build, RunnerSettings())
        opened.close()
        with pytest.raises(RuntimeError, match="closed"):
            opened.run({"x": np.zeros((1, 3), np.float32)})


def test_forcing_changes_runner_and_digest(exported: Path) -> None:
    served, forced = manifest("onnxruntime"), RunnerSettings(force="torch")
    assert isinstance(open_runner(served, exported, build, forced), TorchRunner)
    assert effective(served, forced).digest != served.digest
    assert effective(served, RunnerSettings()) is served


def test_a_missing_export_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match=r"has no model\.onnx"):
        open_runner(manifest("onnxruntime"), tmp_path, build, RunnerSettings())


def test_a_damaged_export_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(PreconditionFailed, match="cannot be opened"):
        open_runner(manifest("onnxruntime"), tmp_path, build, RunnerSettings())


def test_a_version_without_a_runner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="not run from here"):
        open_runner(manifest("engine"), tmp_path, build, RunnerSettings())


def test_onnxruntime_needs_no_torch() -> None:
    modules = "services.runtime.runners.open, services.runtime.runners.onnx_runner"
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
