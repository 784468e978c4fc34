"""Weights on the int8 grid, rounded so that their errors cancel on real inputs. Runs at publish time only.

Each layer's weights are rounded column by column, what one misses being made up for by those that follow (GPTQ,
Frantar et al. 2023, arXiv:2210.17323); what is left in the mean goes into the bias (Nagel et al. 2019,
arXiv:1906.04721). A convolution is a product with patches of its input, one for each group.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from services.runtime.runners.base import Array

Floats = NDArray[np.float64]

LEVELS = 127  # symmetric: −127 … 127 steps of a channel's scale
ROWS_AT_ONCE = 4
PLACES = 24  # patches taken of one input's map
DAMPING = 0.02  # of the mean second moment: inputs are few, and much alike


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution with constant weights [out, in / groups, *kernel]."""

    node: onnx.NodeProto
    weights: Array
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int

    def patches(self, maps: Array, generator: np.random.Generator) -> Array:
        """[N, C, H, W] → [groups, in / groups * kernel, patches], of PLACES random places."""
        top, left, bottom, right = self.pads
        padded = np.pad(maps, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = sliding_window_view(padded, self.kernel, (2, 3))[:, :, :: self.strides[0], :: self.strides[1]]
        places = generator.integers(0, windows.shape[2] * windows.shape[3], PLACES)
        rows, columns = np.divmod(places, windows.shape[3])
        taken = windows[:, :, rows, columns]  # [N, C, PLACES, *kernel]
        split = taken.reshape(len(maps), self.groups, -1, PLACES, *self.kernel).transpose(1, 2, 4, 5, 0, 3)
        return split.reshape(self.groups, -1, len(maps) * PLACES)


def cancel_errors(
    model: onnx.ModelProto, name: str, rows: Array, spared: Collection[str] = ()
) -> dict[str, list[dict[str, float]]]:
    """Moves the convolutions' weights of `model` onto the grid and their biases after them, in place.

    `rows` float32 [N, …] are inputs of the name `name`; nodes named in `spared` stay as they are. Gives the range
    of each channel by the weights' name, in the form of ONNX Runtime's overrides, so that it finds the same grid.
    """
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [layer for layer in _layers(model, initializers) if layer.node.name not in spared]
    means, moments = _statistics(model, layers, name, rows)
    ranges: dict[str, list[dict[str, float]]] = {}
    for layer, mean, moment in zip(layers, means, moments, strict=True):
        weights = layer.weights.reshape(layer.groups, -1, moment.shape[-1]).astype(np.float64)
        scales = np.maximum(np.abs(weights).max(axis=-1), np.finfo(np.float32).tiny) / LEVELS
        found = _rounded(weights, moment, scales)
        missing = np.einsum("gok,gk->go", weights - found, mean).reshape(-1)
        kernel, bias = layer.node.input[1], layer.node.input[2]
        _replace(initializers[kernel], found.reshape(layer.weights.shape))
        _replace(initializers[bias], numpy_helper.to_array(initializers[bias]) + missing)
        ranges[kernel] = [
            {"axis": 0, "rmin": -most, "rmax": most} for most in (scales * LEVELS).reshape(-1).tolist()
        ]
    return ranges


def _layers(model: onnx.ModelProto, initializers: dict[str, onnx.TensorProto]) -> Iterator[Layer]:
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and {*node.input[1:]} <= initializers.keys():
            told = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            weights = numpy_helper.to_array(initializers[node.input[1]])
            pads, strides = tuple(told.get("pads", (0, 0, 0, 0))), tuple(told.get("strides", (1, 1)))
            yield Layer(node, weights, weights.shape[2:], strides, pads, told.get("group", 1))


def _statistics(
    model: onnx.ModelProto, layers: list[Layer], name: str, rows: Array
) -> tuple[list[Floats], list[Floats]]:
    """Mean [groups, K] and second moment [groups, K, K] of each layer's patches."""
    inside = sorted({layer.node.input[0] for layer in layers} - {name})
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(tensor, 1, None) for tensor in inside)
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    sums: list[Floats] = [np.zeros(())] * len(layers)
    squares = list(sums)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        feed = {name: rows[start : start + ROWS_AT_ONCE]}
        found = session.run(inside, feed) if inside else []  # no name would mean every output
        maps = dict(zip(inside, found, strict=True)) | feed
        for place, layer in enumerate(layers):
            patches = layer.patches(maps[layer.node.input[0]], generator)
            sums[place] = sums[place] + patches.sum(axis=-1)
            squares[place] = squares[place] + patches @ patches.transpose(0, 2, 1)
    count = len(rows) * PLACES
    return [total / count for total in sums], [total / count for total in squares]


def _rounded(weights: Floats, moment: Floats, scales: Floats) -> Floats:
    """[groups, out, K] on the grid: each column's error is made up for by the columns behind it."""
    size = weights.shape[-1]
    damping = DAMPING * np.trace(moment, axis1=1, axis2=2) / size + np.finfo(np.float32).tiny
    inverse = np.linalg.inv(moment + damping[:, None, None] * np.eye(size))
    upper = np.linalg.cholesky(inverse).transpose(0, 2, 1)
    left, found = weights.copy(), np.empty_like(weights)
    for column in range(size):
        steps = np.clip(np.round(left[:, :, column] / scales), -LEVELS, LEVELS)
        found[:, :, column] = steps * scales
        error = (left[:, :, column] - found[:, :, column]) / upper[:, None, column, column]
        left[:, :, column:] -= error[:, :, None] * upper[:, None, column, column:]
    return found


def _replace(tensor: onnx.TensorProto, values: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
