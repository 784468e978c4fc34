"""ONNX Runtime on the CPU. Imports no torch, so a process that serves only exported models stays small."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array, Arrays
from services.runtime.store.manifest import Manifest


class OnnxRunner:
    """One session of `threads` compute threads (the calling thread is one of them) for a call that is alone.

    With several `lanes`, one more of a single thread for all other calls: it computes each on its caller's thread,
    so they run beside each other and share the weights.
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1, lanes: int = 1) -> None:
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]
        self._wide: ort.InferenceSession | None = _session(path, threads)
        self._narrow = _session(path, 1) if lanes > 1 and threads > 1 else self._wide

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
        """Arrays by input name → arrays by output name."""
        session = self._wide if alone else self._narrow
        if session is None:
            raise RuntimeError("the runner is closed")
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self._inputs}
        return dict(zip(self._outputs, session.run(self._outputs, feed), strict=True))

    def close(self) -> None:
        """Drop the sessions and their memory arenas."""
        self._wide = self._narrow = None


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # one plan a batch size would be kept, for no speed
    options.log_severity_level = 4  # what it would print of an error is in the exception
    # Spinning pool threads would starve the server's own threads on a machine of few cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no narrower base
        raise PreconditionFailed(f"{path.name} cannot be opened by ONNX Runtime: {error}") from error
