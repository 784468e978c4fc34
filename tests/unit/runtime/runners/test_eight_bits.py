"""Eight bits are kept where they agree with fp32 on rows they never saw, and only then."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array
from services.runtime.runners.eight_bits import DECIDED, LEAST_AGREEMENT, try_eight_bits
from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.runners.open import RunnerSettings, effective, open_runner
from services.runtime.store.manifest import Manifest, TensorSpec

CLASSES, SIDE = 5, 8
MANIFEST = Manifest(
    name="small",
    version=1,
    tasks=("vision.classify",),
    inputs=(TensorSpec(name="images", dtype="float32", shape=(-1, 1, SIDE, SIDE)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=(-1, CLASSES)),),
    runner="onnxruntime",
)
PATTERNS = np.random.default_rng(0).standard_normal((CLASSES, 1, SIDE, SIDE)).astype(np.float32)


def rows(count: int, seed: int) -> Array:
    """One of the patterns each, and noise."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((count, 1, SIDE, SIDE)).astype(np.float32)
    return PATTERNS[generator.integers(0, CLASSES, count)] + noise / 3


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A directory with a net that tells the patterns apart by a convolution as large as they are."""
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("Flatten", ["active"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, SIDE, SIDE]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES]),
    ]
    weights = numpy_helper.from_array(PATTERNS / SIDE, "w")
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        tmp_path / "model.onnx",
    )
    return tmp_path


def test_what_agrees_stays_and_the_faster_is_chosen(exported: Path) -> None:
    verdict = try_eight_bits(MANIFEST, exported, rows(64, 1), {"here": rows(150, 2), "there": rows(50, 3)})
    card = verdict.card()
    assert card["held_out_rows"] == 200 and LEAST_AGREEMENT <= card["decided_agreement"] <= 1
    assert list(card["agreement_by_source"]) == ["here", "there"]
    assert 0 < card["mean_error"] <= card["max_error"] < 0.1
    fp32, int8 = (math.prod(card["milliseconds"][precision]) for precision in ("fp32", "int8"))
    assert verdict.precision == ("int8" if int8 < fp32 else "fp32")
    inside = {node.op_type for node in onnx.load(exported / "model.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= inside


def test_the_figures_are_those_of_the_two_nets(exported: Path) -> None:
    faint_first = np.linspace(0, 1, 200, dtype=np.float32)[:, None, None, None]
    held_out = rows(200, 2) * faint_first
    parts = {"few": held_out[:50], "many": held_out[50:]}
    verdict = try_eight_bits(MANIFEST, exported, rows(64, 1), parts)
    wanted, got = (
        OnnxRunner(exported / file, MANIFEST).run({"images": held_out})["logits"].astype(np.float64)
        for file in ("model.onnx", "model.int8.onnx")
    )
    same = wanted.argmax(1) == got.argmax(1)
    assert verdict.top1_agreement == same.mean()
    assert verdict.by_source == {"few": same[:50].mean(), "many": same[50:].mean()}
    shares = [np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (wanted, got)]
    decided = np.array([(best := sorted(row))[-1] - best[-2] >= DECIDED for row in shares[0]])
    assert 0 < verdict.decided_rows == decided.sum() < 200, "else this proves nothing"
    assert verdict.decided_agreement == same[decided].mean()
    assert verdict.max_error == pytest.approx(np.abs(shares[0] - shares[1]).max(), abs=1e-5)


def test_what_disagrees_is_thrown_away(exported: Path) -> None:
    far_too_large = rows(64, 1) * 50  # so steps are too coarse for what comes: noise that fits no class well
    noise = np.random.default_rng(3).standard_normal((200, 1, SIDE, SIDE)).astype(np.float32)
    verdict = try_eight_bits(MANIFEST, exported, far_too_large, {"noise": noise})
    assert verdict.precision == "fp32" and verdict.decided_agreement < LEAST_AGREEMENT
    assert "another best class" in verdict.reason and not verdict.milliseconds
    assert not (exported / "model.int8.onnx").exists() and (exported / "model.onnx").exists()


def test_settings_choose_the_precision_and_the_digest_tells(exported: Path) -> None:
    try_eight_bits(MANIFEST, exported, rows(64, 1), {"rows": rows(200, 2)})
    held_out = {"images": rows(3, 4)}
    answers = {
        precision: open_runner(MANIFEST, exported, unused, RunnerSettings(precision=precision)).run(held_out)
        for precision in ("fp32", "int8")
    }
    assert not np.array_equal(answers["fp32"]["logits"], answers["int8"]["logits"])
    assert effective(MANIFEST, RunnerSettings(precision="int8")).digest != MANIFEST.digest
    assert effective(MANIFEST, RunnerSettings(precision="fp32")) is MANIFEST


def test_torch_has_no_eight_bits(exported: Path) -> None:
    chosen = MANIFEST.model_copy(update={"precision": "int8"})
    assert effective(chosen, RunnerSettings(force="torch")).precision == "fp32"
    with pytest.raises(PreconditionFailed, match="torch computes in fp32"):
        open_runner(chosen, exported, unused, RunnerSettings(force="torch", precision="int8"))


def test_a_version_without_eight_bits_names_the_fix(exported: Path) -> None:
    with pytest.raises(PreconditionFailed, match=r"has no model\.int8\.onnx.* set the precision to fp32"):
        open_runner(MANIFEST, exported, unused, RunnerSettings(precision="int8"))


def test_a_precision_nobody_knows_is_told(exported: Path) -> None:
    strange = MANIFEST.model_copy(update={"precision": "int3"})
    with pytest.raises(PreconditionFailed, match="'int3' is no precision"):
        open_runner(strange, exported, unused, RunnerSettings())


def unused(manifest: Manifest, directory: Path) -> None:
    raise AssertionError("torch is not asked for")


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_beside_each_other_give_what_lone_ones_give(exported: Path, threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    runner = OnnxRunner(exported / "model.onnx", MANIFEST, threads, lanes=2)
    inputs = [{"images": rows(1 + n % 3, n)} for n in range(40)]
    wanted = [runner.run(feed)["logits"] for feed in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda feed: runner.run(feed, False)["logits"], inputs))
    for one, other in zip(wanted, got, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    runner.close()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(inputs[0], False)
