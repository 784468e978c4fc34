"""Whether a version is served in eight bits: quantise, compare with fp32 on rows it never saw, time, decide.

Runs at publish time only.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.runtime.runners.base import ONNX_FILES, Array, Precision
from services.runtime.runners.onnx_runner import OnnxRunner
from services.runtime.runners.quantise import quantise
from services.runtime.runners.samples import BATCH_SIZES
from services.runtime.runners.stopwatch import times
from services.runtime.store.manifest import Manifest

LEAST_AGREEMENT = 0.99
ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and what it rests on; errors are of class probabilities."""

    precision: Precision
    reason: str
    rows: int
    top1_agreement: float
    mean_error: float
    max_error: float
    milliseconds: dict[str, list[float]] = field(default_factory=dict)

    def card(self) -> dict[str, Any]:
        """Plain data for card.json: times are medians in milliseconds on one thread, one per batch size."""
        return {
            "chosen": self.precision,
            "reason": self.reason,
            "held_out_rows": self.rows,
            "top1_agreement": self.top1_agreement,
            "least_agreement": LEAST_AGREEMENT,
            "mean_error": self.mean_error,
            "max_error": self.max_error,
            "batch_sizes": list(BATCH_SIZES),
            "milliseconds": self.milliseconds,
        }


def try_eight_bits(manifest: Manifest, directory: Path, calibration: Array, held_out: Array) -> Verdict:
    """Makes model.int8.onnx beside the exported net, of one input and with class scores as its first output.

    It stays only if it agrees: of the held-out rows, LEAST_AGREEMENT have the same best class.
    """
    paths = {precision: directory / file for precision, file in ONNX_FILES.items()}
    name = manifest.inputs[0].name
    quantise(paths["fp32"], paths["int8"], name, calibration)
    runners = {precision: OnnxRunner(path, manifest) for precision, path in paths.items()}
    verdict = _compare(*(_scores(runner, manifest, held_out) for runner in runners.values()))
    if verdict.top1_agreement < LEAST_AGREEMENT:
        paths["int8"].unlink()
        return verdict
    samples = [{name: held_out[:rows]} for rows in BATCH_SIZES]
    return _decide(
        replace(verdict, milliseconds={precision: times(runner, samples) for precision, runner in runners.items()})
    )


def _scores(runner: OnnxRunner, manifest: Manifest, rows: Array) -> Array:
    """Class probabilities [N, classes]."""
    name, first = manifest.inputs[0].name, manifest.outputs[0].name
    parts = [runner.run({name: rows[at : at + ROWS_AT_ONCE]})[first] for at in range(0, len(rows), ROWS_AT_ONCE)]
    logits = np.concatenate(parts)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _compare(wanted: Array, got: Array) -> Verdict:
    errors = np.abs(wanted - got).max(axis=1)
    agreement = float((wanted.argmax(axis=1) == got.argmax(axis=1)).mean())
    reason = f"int8 names another best class than fp32 on more than {1 - LEAST_AGREEMENT:.0%} of the rows"
    return Verdict("fp32", reason, len(wanted), agreement, float(errors.mean()), float(errors.max()))


def _decide(measured: Verdict) -> Verdict:
    fp32, int8 = (math.prod(measured.milliseconds[precision]) for precision in ("fp32", "int8"))
    if int8 < fp32:
        return replace(measured, precision="int8", reason="int8 agrees and is faster")
    return replace(measured, reason="int8 agrees and is no faster")
