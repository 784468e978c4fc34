"""ONNX Runtime on the CPU. Imports no torch, so a process that serves only exported models stays small."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest


class OnnxRunner:
    """One session of `threads` compute threads (the calling thread is one of them)."""

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1) -> None:
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]
        self._session: ort.InferenceSession | None = _session(path, threads)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Arrays by input name → arrays by output name."""
        if self._session is None:
            raise RuntimeError("the runner is closed")
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def close(self) -> None:
        """Drop the session and its memory arena."""
        self._session = None


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it would print of an error is in the exception
    # Spinning pool threads would starve the server's own threads on a machine of few cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no narrower base
        raise PreconditionFailed(f"{path.name} cannot be opened by ONNX Runtime: {error}") from error
