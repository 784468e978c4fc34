"""No library tells its makers what is computed here."""

import os
import subprocess
import sys
from pathlib import Path

# A session, as runners open it; where reports are made, this writes an id of the machine and a shelf of events.
COMPUTE = """
from services.runtime.runners import onnx_runner
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "one", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
onnx_runner.ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""
# Under tests of others' it makes none by itself.
ASIDE = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY")


def test_onnx_runtime_reports_nothing_home(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ASIDE}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", COMPUTE], env={**plain, **home}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*"))
