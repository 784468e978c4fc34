"""Grapheme to phoneme written as ONNX spells as torch does: words of any length side by side, ended or cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.store.manifest import Manifest
from services.sequence.models import registry
from services.sequence.models.g2p import GraphemeToPhoneme
from tests.unit.sequence.fakes import spec

LETTERS, WIDTH, STOP, PAD = 9, 12, 3, 0


def net(most: int, stop_bias: float = 0.0) -> tuple[GraphemeToPhoneme, Manifest]:
    """Random weights; `stop_bias` makes it end its words sooner."""
    torch.manual_seed(most)
    config: dict[str, Any] = {
        "graphemes": ["<pad>"] * LETTERS, "phonemes": ["<pad>"] * 11, "hidden_size": WIDTH, "start_id": 2,
        "stop_id": STOP, "pad_id": PAD, "max_output_tokens": most,
    }  # fmt: skip
    module = GraphemeToPhoneme(config).eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(3)
        module.head.bias[STOP] += stop_bias
    manifest = Manifest(
        name="spelling",
        version=1,
        tasks=("sequence.transduce",),
        architecture="g2p",
        config=config,
        inputs=(spec("graphemes", -1, -1, dtype="int64"), spec("lengths", -1, dtype="int64")),
        outputs=(spec("phonemes", -1, -1, dtype="int64"), spec("log_probs", -1, -1)),
    )
    return module, manifest


@pytest.mark.parametrize(("most", "stop_bias"), [(20, 0.0), (20, 3.0), (5, -50.0), (1, 0.0)])
def test_words_of_any_length_equal_torch_s(tmp_path: Path, most: int, stop_bias: float) -> None:
    module, manifest = net(most, stop_bias)
    registry.export(module, manifest, tmp_path / "model.onnx")
    runner, draw = OnnxRunner(tmp_path / "model.onnx", manifest), np.random.default_rng(0)
    for rows, letters in ((1, 1), (1, 13), (17, 8)):
        lengths = draw.integers(1, letters + 1, rows)
        lengths[-1] = letters
        graphemes = draw.integers(0, LETTERS, (rows, letters))  # what is beyond the end of a row changes nothing
        with torch.inference_mode():
            wanted = [value.numpy() for value in module(torch.from_numpy(graphemes), torch.from_numpy(lengths))]
        found = runner.run({"graphemes": graphemes, "lengths": lengths})
        assert found["phonemes"].dtype == np.int64
        assert np.array_equal(found["phonemes"], wanted[0])
        np.testing.assert_allclose(found["log_probs"], wanted[1], atol=1e-4)
    ended = (wanted[0] == STOP).any(axis=1)
    assert ended.all() if most == 20 else not ended.all()
    assert (wanted[0] == PAD).any() == ((most, stop_bias) == (20, 0.0))  # some ended before others


def test_the_same_net_makes_the_same_file(tmp_path: Path) -> None:
    module, manifest = net(4)
    for name in ("one", "two"):
        registry.export(module, manifest, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
