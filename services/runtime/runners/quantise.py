"""model.onnx → the same net in eight bits, by static quantisation. Runs at publish time only. Knows no pictures.

QDQ form: weights int8, symmetric, a scale for each output channel; activations uint8, asymmetric, one scale each,
from what real inputs gave (Jacob et al. 2018, with scales per channel as in Krishnamoorthi 2018). The first layers
stay in floats: every later one computes on their errors, and they are a small part of the work. So does the last
product behind its sums: classes that are near each other must not fall together.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from services.runtime.runners.base import Array
from services.runtime.runners.rounding import cancel_errors

ROWS_AT_ONCE = 8
# Convolutions from the picture on; of a net of so few, none.
IN_FLOATS = 3


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """Hands out the calibration inputs, a few rows at a time."""

    def __init__(self, name: str, rows: Array) -> None:
        self._batches: Iterator[dict[str, Array]] = (
            {name: rows[start : start + ROWS_AT_ONCE]} for start in range(0, len(rows), ROWS_AT_ONCE)
        )

    def get_next(self) -> dict[str, Array] | None:
        """The next feed; None at the end."""
        return next(self._batches, None)


def quantise(source: Path, target: Path, name: str, rows: Array) -> None:
    """Writes `target`. `rows` float32 [N, …] are inputs of the name `name` as the net will see them."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fused = Path(folder) / "fused.onnx"
        quant_pre_process(source, fused, skip_symbolic_shape=True)
        net = onnx.load(fused)
        spared = _first(net)
        ranges = cancel_errors(net, name, rows, spared)
        quantize_static(
            net,
            target,
            Rows(name, rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            nodes_to_exclude=spared,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": ranges, "OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
    onnx.checker.check_model(target, full_check=True)


def _first(net: onnx.ModelProto) -> list[str]:
    """The names of the convolutions that stay in floats, of a graph in the order of computing."""
    names = [node.name for node in net.graph.node if node.op_type == "Conv"]
    return names[:IN_FLOATS] if len(names) > 2 * IN_FLOATS else []
