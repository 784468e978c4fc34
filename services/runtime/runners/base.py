"""What executes a model version: named arrays in, named arrays out. Knows no framework."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

ONNX_FILE = "model.onnx"  # beside the weights, if the version was exported

Array = NDArray[Any]
Arrays = Mapping[str, Array]


class Runner(Protocol):
    """Executes one loaded model version. Call it from one thread at a time (the device thread)."""

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """The manifest's inputs by name → its outputs by name; the batch axis is the inputs' own.

        Raises KeyError for a missing input; shapes and dtypes are the caller's promise, checked before.
        """
        ...

    def close(self) -> None:
        """Let go of the model's memory. `run` must not be called again."""
        ...
