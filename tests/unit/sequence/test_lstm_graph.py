"""The stacked LSTM written as ONNX answers as torch does, for rows of any length side by side."""

from pathlib import Path

import numpy as np
import pytest
import torch

from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.store.manifest import Manifest
from services.sequence.models import registry
from services.sequence.models.lstm import LstmClassifier
from services.sequence.models.scaling import Scaling
from training.recipes.lstm_classify import manifest_fields


def net(*hidden: int, embeds: bool = False) -> tuple[LstmClassifier, Manifest]:
    torch.manual_seed(len(hidden))
    config = {"features": 3, "hidden_sizes": list(hidden), "classes": 4, "embeds": embeds}
    fields = manifest_fields(config, Scaling((0.0,) * 3, (1.0,) * 3))
    manifest = Manifest(name="motions", version=1, **fields)
    return LstmClassifier(config).eval(), manifest


@pytest.mark.parametrize("embeds", [False, True])
@pytest.mark.parametrize("hidden", [(64, 32), (5,), (4, 6, 3)])
def test_rows_of_any_length_equal_torch_s(tmp_path: Path, hidden: tuple[int, ...], embeds: bool) -> None:
    module, manifest = net(*hidden, embeds=embeds)
    registry.export(module, manifest, tmp_path / "model.onnx")
    runner = OnnxRunner(tmp_path / "model.onnx", manifest)
    draw = np.random.default_rng(0)
    for rows, steps in ((1, 1), (1, 40), (7, 23)):
        lengths = draw.integers(1, steps + 1, rows)
        lengths[-1] = steps
        series = draw.normal(size=(rows, steps, 3)).astype(np.float32)
        series[np.arange(steps) >= lengths[:, None]] = 1e6  # what is beyond the end of a row changes nothing
        with torch.inference_mode():
            wanted = module(torch.from_numpy(series), torch.from_numpy(lengths))
        found = runner.run({"series": series, "lengths": lengths})
        assert list(found) == (["logits", "features"] if embeds else ["logits"])
        for ours, theirs in zip(found.values(), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_the_same_net_makes_the_same_file(tmp_path: Path) -> None:
    module, manifest = net(5)
    registry.export(module, manifest, tmp_path / "one.onnx")
    registry.export(module, manifest, tmp_path / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
