"""Which runner serves a version: export, compare, time, decide. Runs at publish time only."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from services.runtime.runners.base import ONNX_FILE, Array, Arrays, Runner
from services.runtime.runners.export import export
from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.runners.samples import Sampler, synthesise
from services.runtime.runners.stopwatch import times
from services.runtime.runners.torch_runner import TorchRunner
from services.runtime.store.manifest import Manifest

TOLERANCE = 1e-3
MOST_LETTERS = 200
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PROBES = ((5, 7), (2, 29))  # rows, and the size of every other free axis

Exporter = Callable[[nn.Module, Manifest, Path], None]


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
    module: nn.Module,
    manifest: Manifest,
    directory: Path,
    sampler: Sampler = synthesise,
    threads: int = 1,
    exporter: Exporter = export,
) -> Choice:
    """Export to `directory`, compare both runners on what `sampler` makes, take the faster if they agree.

    `model.onnx` stays beside the weights only if it agrees: error over the largest output magnitude within
    TOLERANCE, and every top-1 of the first output the same, at several sizes of every free axis.
    """
    path = directory / ONNX_FILE
    try:
        exporter(module, manifest, path)
    except torch.onnx.errors.OnnxExporterError as error:
        path.unlink(missing_ok=True)
        return Choice("torch", f"not exportable: {_first_line(error.__cause__ or error)}")
    reference, exported = TorchRunner(module, manifest), OnnxRunner(path, manifest, threads)
    samples = sampler(manifest)
    choice = _compare(reference, exported, [*samples, *_probes(manifest, sampler)])
    if not choice.agrees:
        path.unlink()
        return choice
    taken = {"torch": times(reference, samples), "onnxruntime": times(exported, samples)}
    return _decide(replace(choice, milliseconds=taken, batch_sizes=[_rows(sample) for sample in samples]))


def _probes(manifest: Manifest, sampler: Sampler) -> list[Arrays]:
    """Sizes that neither the tracer nor the stop-watch uses: an export may fix a free axis to what it was shown.

    A short and a long one, as a fixed axis may fail in one direction only.
    """
    return [sample for rows, free in PROBES for sample in sampler(manifest, [rows], 1, free)]


def _compare(reference: Runner, exported: Runner, samples: Sequence[Arrays]) -> Choice:
    """Runs torch unless the exported model agrees on every sample; no times yet."""
    wanted = [reference.run(sample) for sample in samples]
    try:
        got = [exported.run(sample) for sample in samples]
    except Exception as error:  # ONNX Runtime's own classes share no narrower base
        return Choice("torch", f"the exported model fails where the reference does not: {_first_line(error)}")
    pairs = list(zip(wanted, got, strict=True))
    if any(ours[name].shape != theirs[name].shape for ours, theirs in pairs for name in ours):
        return Choice("torch", "the exported model's outputs have other shapes than the reference's")
    worst = max(_error(ours[name], theirs[name]) for ours, theirs in pairs for name in ours)
    first = next(iter(wanted[0]))
    top1 = min(_top1(ours[first], theirs[first]) for ours, theirs in pairs)
    return Choice("torch", "the exported model disagrees with the reference", worst, top1)


def _decide(measured: Choice) -> Choice:
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


def _rows(sample: Arrays) -> int:
    return len(next(iter(sample.values())))


def _first_line(error: BaseException) -> str:
    """What a card can keep of an error: one line of bounded length, without colours."""
    lines = COLOUR.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0][:MOST_LETTERS]
