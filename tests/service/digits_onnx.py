"""The digit net of the vision tests as ONNX, written node by node: the exporter would take ten seconds."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def write(net: nn.Module, path: Path) -> None:
    """Three convolutions with ReLU and pool, then two products: logits and features of `MnistCnn`."""
    weights = [numpy_helper.from_array(value.numpy(), name) for name, value in net.state_dict().items()]
    nodes, at = [], "images"
    for index in range(3):
        kernel = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        pair = [f"convs.{index}.weight", f"convs.{index}.bias"]
        nodes += [
            helper.make_node("Conv", [at, *pair], [f"conv{index}"], f"conv{index}", **kernel),
            helper.make_node("Relu", [f"conv{index}"], [f"relu{index}"], f"relu{index}"),
            helper.make_node(
                "MaxPool", [f"relu{index}"], [f"pool{index}"], f"pool{index}", kernel_shape=[2, 2], strides=[2, 2]
            ),
        ]
        at = f"pool{index}"
    nodes += [
        helper.make_node("Flatten", [at], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["sums"], "hidden", transB=1),
        helper.make_node("Relu", ["sums"], ["features"], "features"),
        helper.make_node(
            "Gemm", ["features", "classifier.weight", "classifier.bias"], ["logits"], "classifier", transB=1
        ),
    ]
    shapes = {"images": ["n", 1, 28, 28], "logits": ["n", 10], "features": ["n", 256]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "digits", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
