"""The session that the Python-fronted peers compute with. Knows no server."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime

from tests.bench.peers.serving.spec import Model

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array]], Array]


def opened(model: Model, threads: int = 0) -> Run:
    """Arrays by input → the output, rows first. `threads` 0: as many as the library likes, its default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    ranks = {one.name: len(one.shape) for one in session.get_inputs()}

    def run(arrays: Mapping[str, Array]) -> Array:
        feed = {name: array.reshape(array.shape[: ranks[name]]) for name, array in arrays.items()}
        return session.run([model.output.name], feed)[0]

    return run
