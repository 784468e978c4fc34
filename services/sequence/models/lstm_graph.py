"""A stacked LSTM classifier as an ONNX graph, written operator by operator. Runs at publish time only.

torch's exporter fixes the number of steps, or makes of each step a round of a loop. ONNX has the layer itself as
one operator, and that operator knows where each row ends.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from services.runtime.store.manifest import Manifest
from services.sequence.models.lstm import LstmClassifier

OPSET, IR_VERSION = 17, 9


def export(module: LstmClassifier, manifest: Manifest, path: Path) -> None:
    """Writes `module` to `path`: the manifest's series [B, T, F] and lengths [B] → its logits, and last state."""
    series, lengths = manifest.inputs
    graph = helper.make_graph(
        list(_nodes(module, series.name, lengths.name, [spec.name for spec in manifest.outputs])),
        manifest.architecture,
        [
            helper.make_tensor_value_info(series.name, TensorProto.FLOAT, ["rows", "steps", series.shape[2]]),
            helper.make_tensor_value_info(lengths.name, TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, ["rows", o.shape[1]]) for o in manifest.outputs],
        list(_weights(module)),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _nodes(module: LstmClassifier, series: str, lengths: str, answers: Sequence[str]) -> Iterator[NodeProto]:
    last = len(module.layers) - 1
    yield helper.make_node("Cast", [lengths], ["ends"], to=TensorProto.INT32)
    yield helper.make_node("Transpose", [series], ["steps_0"], perm=[1, 0, 2])
    for index, layer in enumerate(module.layers):
        given = [f"steps_{index}", f"w_{index}", f"r_{index}", f"b_{index}", "ends"]
        made = ["", "state"] if index == last else [f"states_{index}"]
        yield helper.make_node("LSTM", given, made, hidden_size=layer.hidden_size)
        if index < last:  # [T, 1 direction, B, H] → the steps of the next layer
            yield helper.make_node("Squeeze", [*made, "second_axis"], [f"steps_{index + 1}"])
    yield helper.make_node("Squeeze", ["state", "first_axis"], ["end"])
    yield helper.make_node("Gemm", ["end", "head_w", "head_b"], [answers[0]], transB=1)
    if module.embeds:
        yield helper.make_node("Identity", ["end"], [answers[1]])


def _weights(module: LstmClassifier) -> Iterator[TensorProto]:
    for index, layer in enumerate(module.layers):
        biases = [_gates(layer, "bias_ih_l0"), _gates(layer, "bias_hh_l0")]
        yield _named(f"w_{index}", _gates(layer, "weight_ih_l0")[None])
        yield _named(f"r_{index}", _gates(layer, "weight_hh_l0")[None])
        yield _named(f"b_{index}", torch.cat(biases)[None])
    yield _named("head_w", module.head.weight)
    yield _named("head_b", module.head.bias)
    yield numpy_helper.from_array(np.array([0]), "first_axis")
    yield numpy_helper.from_array(np.array([1]), "second_axis")


def _gates(layer: nn.Module, name: str) -> Tensor:
    """torch's order (input, forget, cell, output) → that of ONNX (input, output, forget, cell)."""
    i, f, c, o = layer.get_parameter(name).detach().chunk(4)
    return torch.cat([i, o, f, c])


def _named(name: str, values: Tensor) -> TensorProto:
    return numpy_helper.from_array(values.detach().cpu().numpy(), name)
