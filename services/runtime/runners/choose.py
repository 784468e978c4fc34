"""Which runner serves a version: export, compare, time, decide. Runs at publish time only."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from services.runtime.runners.base import ONNX_FILE, Array, Arrays, Runner
from services.runtime.runners.export import export
from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.runners.torch_runner import TorchRunner
from services.runtime.store.manifest import Manifest

TOLERANCE = 1e-3
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision and what it rests on; `card()` is what the model card keeps."""

    runner: Literal["torch", "onnxruntime"]
    reason: str
    max_error: float | None = None
    top1_agreement: float | None = None
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    batch_sizes: list[int] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether the exported model may stand in for the reference."""
        return self.max_error is not None and self.max_error <= TOLERANCE and self.top1_agreement == 1.0

    def card(self) -> dict[str, Any]:
        """Plain data for card.json: times are medians in milliseconds, one per batch size."""
        return {
            "runner": {
                "chosen": self.runner,
                "reason": self.reason,
                "tolerance": TOLERANCE,
                "max_error": self.max_error,
                "top1_agreement": self.top1_agreement,
                "batch_sizes": self.batch_sizes,
                "milliseconds": self.milliseconds,
            }
        }


def choose(
    module: nn.Module, manifest: Manifest, directory: Path, samples: Sequence[Arrays], threads: int = 1
) -> Choice:
    """Export to `directory`, compare both runners on `samples`, take the faster if they agree.

    `samples` are ready input sets, usually of one row and of eight. `model.onnx` stays beside the weights
    only if it agrees: error over the largest output magnitude within TOLERANCE, and every top-1 of the
    first output the same.
    """
    path = directory / ONNX_FILE
    try:
        export(module, manifest, path)
    except torch.onnx.errors.OnnxExporterError as error:
        path.unlink(missing_ok=True)
        return Choice("torch", f"not exportable: {_first_line(error)}")
    choice = _compare(TorchRunner(module, manifest), OnnxRunner(path, manifest, threads), samples)
    if not choice.agrees:
        path.unlink()
    return choice


def _compare(reference: Runner, exported: Runner, samples: Sequence[Arrays]) -> Choice:
    pairs = [(reference.run(sample), exported.run(sample)) for sample in samples]
    worst = max(_error(wanted[name], got[name]) for wanted, got in pairs for name in wanted)
    first = next(iter(pairs[0][0]))
    top1 = min(_top1(wanted[first], got[first]) for wanted, got in pairs)
    times = {"torch": _times(reference, samples), "onnxruntime": _times(exported, samples)}
    return _decide(Choice("torch", "", worst, top1, times, [_rows(sample) for sample in samples]))


def _decide(measured: Choice) -> Choice:
    if not measured.agrees:
        return replace(measured, reason="the exported model disagrees with the reference")
    torch_time, onnx_time = (math.prod(measured.milliseconds[name]) for name in ("torch", "onnxruntime"))
    if onnx_time < torch_time:
        return replace(measured, runner="onnxruntime", reason="onnxruntime is faster")
    return replace(measured, reason="torch is faster")


def _error(wanted: Array, got: Array) -> float:
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    return float(np.abs(wanted - got).max(initial=0.0)) / scale


def _top1(wanted: Array, got: Array) -> float:
    """Share of rows whose largest value stands at the same place; 1 where there is nothing to rank."""
    if wanted.ndim < 2 or wanted.shape[-1] < 2:
        return 1.0
    return float((wanted.argmax(-1) == got.argmax(-1)).mean())


def _times(runner: Runner, samples: Sequence[Arrays]) -> list[float]:
    return [round(_median_ms(runner, sample), 3) for sample in samples]


def _median_ms(runner: Runner, sample: Arrays) -> float:
    taken = []
    for _ in range(REPEATS + 1):  # the first run warms up and is dropped
        started = time.perf_counter()
        runner.run(sample)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken[1:])


def _rows(sample: Arrays) -> int:
    return len(next(iter(sample.values())))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
