"""Weights come to lie on the int8 grid, and what they miss cancels on inputs like those they were rounded for."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.runtime.runners.base import Array
from services.runtime.runners.rounding import LEVELS, cancel_errors

SIDE, INPUTS = 9, 6
# kernel, stride, pads, groups, outputs: as in the nets that are quantised
SHAPES = [(1, 1, (0, 0, 0, 0), 1, 8), (3, 2, (0, 0, 1, 1), 1, 5), (3, 1, (1, 1, 1, 1), INPUTS, INPUTS)]


def convolution(kernel: int, stride: int, pads: tuple[int, ...], groups: int, outputs: int) -> onnx.ModelProto:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((outputs, INPUTS // groups, kernel, kernel)).astype(np.float32)
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(outputs, np.float32), "b")]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride] * 2, pads=pads, group=groups)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS, SIDE, SIDE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answers(model: onnx.ModelProto, rows: Array) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows})[0]


def rows(count: int, seed: int) -> Array:
    """Channels that depend on each other, positive as behind a ReLU."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((INPUTS, 2))
    sources = generator.standard_normal((count, SIDE, SIDE, 2))
    return np.abs(sources @ mixing.T + 0.1 * generator.standard_normal((count, SIDE, SIDE, INPUTS))).transpose(
        0, 3, 1, 2
    ).astype(np.float32)  # fmt: skip


def plainly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each weight to the grid point that is nearest, the bias as it was."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weights = numpy_helper.to_array(made.graph.initializer[0])
    steps = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / LEVELS
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.round(weights / steps) * steps, "w"))
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_lie_on_the_grid_that_is_told(shape: tuple[int, int, tuple[int, ...], int, int]) -> None:
    model = convolution(*shape)
    before = numpy_helper.to_array(model.graph.initializer[0])
    ranges = cancel_errors(model, "x", rows(40, 2))
    after = numpy_helper.to_array(model.graph.initializer[0])
    assert list(ranges) == ["w"] and len(ranges["w"]) == len(before)
    for channel, told, old in zip(after, ranges["w"], before, strict=True):
        assert told["rmax"] == -told["rmin"] == pytest.approx(np.abs(old).max())
        steps = channel / (told["rmax"] / LEVELS)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        assert np.abs(np.round(steps)).max() <= LEVELS
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_nearer_than_those_of_the_nearest_weights(
    shape: tuple[int, int, tuple[int, ...], int, int],
) -> None:
    model, unseen = convolution(*shape), rows(40, 3)
    wanted, plain = answers(model, unseen), answers(plainly(model), unseen)
    cancel_errors(model, "x", rows(40, 2))
    got = answers(model, unseen)
    assert np.square(got - wanted).mean() < 0.5 * np.square(plain - wanted).mean()
    missing, plainly_missing = (np.abs((some - wanted).mean(axis=(0, 2, 3))).max() for some in (got, plain))
    assert missing < 0.1 * plainly_missing


def test_a_dead_channel_stays_dead() -> None:
    model = convolution(*SHAPES[0])
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[2] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    cancel_errors(model, "x", rows(8, 2))
    found = numpy_helper.to_array(model.graph.initializer[0])
    assert np.isfinite(found).all() and not found[2].any()


def test_what_is_spared_stays_as_it_was() -> None:
    model = convolution(*SHAPES[0])
    model.graph.node[0].name = "first"
    before = model.SerializeToString()
    assert cancel_errors(model, "x", rows(8, 2), spared=["first"]) == {}
    assert model.SerializeToString() == before
