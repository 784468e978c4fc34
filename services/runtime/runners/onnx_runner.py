"""ONNX Runtime on the CPU. Imports no torch, so a process that serves only exported models stays small."""

from collections import defaultdict
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort

from services.runtime.errors import PreconditionFailed
from services.runtime.runners.base import Array, Arrays
from services.runtime.runners.quicker import WIDE, Quicker
from services.runtime.store.manifest import Manifest


class OnnxRunner:
    """One session of `threads` compute threads (the calling thread is one of them).

    With several `lanes`, one more of a single thread: it computes each call on its caller's thread, so that they
    run beside each other and share the weights. Who is alone gets the session that is quicker for inputs of that
    size: threads that must wait for each other's core are slower than one.
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int = 1, lanes: int = 1) -> None:
        self._inputs = [spec.name for spec in manifest.inputs]
        self._outputs = [spec.name for spec in manifest.outputs]
        choice = lanes > 1 and threads > 1
        self._wide: ort.InferenceSession | None = _session(path, threads, spins=choice)
        self._narrow = _session(path, 1) if choice else self._wide
        # By the size of the inputs, to the next power of two.
        self._quicker: defaultdict[int, Quicker] = defaultdict(Quicker)

    def run(self, inputs: Arrays, alone: bool = True) -> dict[str, Array]:
        """Arrays by input name → arrays by output name."""
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self._inputs}
        found = (
            self._alone(feed) if alone and self._wide is not self._narrow else self._compute(self._narrow, feed)
        )
        return dict(zip(self._outputs, found, strict=True))

    def _alone(self, feed: Arrays) -> list[Array]:
        quicker = self._quicker[sum(array.size for array in feed.values()).bit_length()]
        way, began = quicker.way(), perf_counter()
        found = self._compute(self._wide if way == WIDE else self._narrow, feed)
        quicker.took(way, perf_counter() - began)
        return found

    def _compute(self, session: ort.InferenceSession | None, feed: Arrays) -> list[Array]:
        if session is None:
            raise RuntimeError("the runner is closed")
        found: list[Array] = session.run(self._outputs, feed)
        return found

    def close(self) -> None:
        """Drop the sessions and their memory arenas."""
        self._wide = self._narrow = None


def _session(path: Path, threads: int, spins: bool = False) -> ort.InferenceSession:
    """`spins`: its threads wait busily for each other within a run, and not a moment longer."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # one plan a batch size would be kept, for no speed
    options.log_severity_level = 4  # what it would print of an error is in the exception
    # Threads that spin between runs, or beside other runs, starve the server's own where cores are few.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no narrower base
        raise PreconditionFailed(f"{path.name} cannot be opened by ONNX Runtime: {error}") from error
