"""The kernels' C face by ctypes: structures of `source/model.h`, a pool of threads, a pass, logits.

Calls release the GIL. Every array handed over stays the caller's and must outlive the call (or the model).
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

I32, F32, POINTER = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p
SETS = ("avx512", "avx2", "portable")
Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int32]
BLOCK = 16  # tokens of a KV block
PANEL = 32  # outputs of a packed panel


def _each(kind: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names]


class Linear(ctypes.Structure):
    """Packed bytes [outputs/32, inputs/4, 2, 16, 4], float32 scales, int32 offsets, float32 biases or null."""

    _fields_ = _each(I32, "inputs", "outputs") + _each(POINTER, "weight", "scale", "offset", "bias")


class Layer(ctypes.Structure):
    """The four products of a block, and float32 [head_dim] norms of queries and keys or null."""

    _fields_ = [(name, Linear) for name in ("qkv", "out", "up", "down")] + [
        ("q_norm", POINTER),
        ("k_norm", POINTER),
    ]


class Model(ctypes.Structure):
    """A whole net. activation: 0 = gated SiLU, 1 = GELU's tanh form; window 0 = every key.

    spread: floats of the inner layer that one Hadamard matrix mixes.
    """

    _fields_ = [
        *_each(
            I32, "hidden", "heads", "kv_heads", "head_dim", "inner", "layers", "activation", "window", "spread"
        ),
        ("eps", F32),
        *_each(POINTER, "embedding", "places", "cosine", "sine", "layer"),
        ("head", Linear),
    ]


class LowRank(ctypes.Structure):
    """y += up·(down·x + bias); up float32 [outputs/32, rank, 32]; rank 0 = nothing."""

    _fields_ = [("down", Linear), ("rank", I32), ("up", POINTER)]


class Change(ctypes.Structure):
    """What an adapter adds to the products of one layer."""

    _fields_ = _each(LowRank, "qkv", "out", "up", "down")


class Adapted(ctypes.Structure):
    """`count` rows of one adapter from `first` on, and its changes, layer by layer."""

    _fields_ = [*_each(I32, "first", "count"), ("change", POINTER)]


class Batch(ctypes.Structure):
    """The rows of one pass. parts: how many `adapted` there are; ranks: the most of them, in whole panels."""

    _fields_ = [
        *_each(I32, "rows", "table_width"),
        *_each(POINTER, "tokens", "positions", "sequences", "tables", "cells", "hidden"),
        *_each(I32, "parts", "ranks"),
        ("adapted", POINTER),
    ]


class Kernels:
    """The library, bound to the best instruction set of this processor or a named one, and its threads."""

    def __init__(self, path: Path, threads: int, cpus: Sequence[int] = (), isa: str = "") -> None:
        """cpus: where each thread but the first, the caller's own, is bound; empty = anywhere."""
        self._library = _signed(ctypes.CDLL(str(path)))
        self._set = SETS.index(isa) if isa else self._library.maas_best()
        self.isa = SETS[self._set]
        self.fuses = self.isa != "portable"
        places = (I32 * threads)(*(cpus or [-1] * threads))
        self._crew = self._library.maas_crew(threads, places)

    def forward(self, model: Model, batch: Batch) -> None:
        """Fills `batch.hidden` and the KV cells of its rows."""
        self._library.maas_forward(self._set, self._crew, ctypes.byref(model), ctypes.byref(batch))

    def logits(
        self, model: Model, hidden: int, rows: Sequence[int], vocab: int, out: int
    ) -> tuple[list[int], list[float], list[float]]:
        """These rows of float32 [any, hidden] at the address `hidden` → float32 [rows, head.outputs] at `out`,
        a multiple of 64.

        Returns, of the first `vocab` of each row, the place of the largest, the largest, and ln Σ e^logit.
        """
        count = len(rows)
        best, peaks, log_sums = (I32 * count)(), (F32 * count)(), (F32 * count)()
        arrays = (hidden, (I32 * count)(*rows), count, vocab, out, best, peaks, log_sums)
        self._library.maas_logits(self._set, self._crew, ctypes.byref(model), *arrays)
        return list(best), list(peaks), list(log_sums)

    def close(self) -> None:
        """Ends the threads; nothing may be called any more."""
        self._library.maas_crew_end(self._crew)


def _signed(library: ctypes.CDLL) -> Any:
    library.maas_crew.restype = POINTER
    library.maas_crew.argtypes = [I32, POINTER]
    library.maas_crew_end.argtypes = [POINTER]
    library.maas_forward.argtypes = [I32, POINTER, POINTER, POINTER]
    library.maas_logits.argtypes = [I32, *[POINTER] * 4, I32, I32, *[POINTER] * 4]
    return library
