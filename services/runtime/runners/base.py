"""What executes a model version: named arrays in, named arrays out. Knows no framework."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

Precision = Literal["fp32", "int8"]

ONNX_FILE = "model.onnx"  # beside the weights, if the version was exported
ONNX_FILES: Mapping[str, str] = {"fp32": ONNX_FILE, "int8": "model.int8.onnx"}

Array = NDArray[Any]
Arrays = Mapping[str, Array]


class Runner(Protocol):
    """Executes one loaded model version."""

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
        """The manifest's inputs by name → its outputs by name; the batch axis is the inputs' own.

        `alone`: nothing else computes now, so take all threads; one such call at a time. Others take the calling
        thread only, and may run beside each other. Raises KeyError for a missing input; shapes and dtypes are the
        caller's promise, checked before.
        """
        ...

    def close(self) -> None:
        """Let go of the model's memory. `run` must not be called again."""
        ...
