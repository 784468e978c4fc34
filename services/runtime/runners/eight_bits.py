"""Whether a version is served in eight bits: quantise, compare with fp32 on rows it never saw, time, decide.

Runs at publish time only.
"""

import math
from collections.abc import Mapping
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
# What fp32 leads by, in probability, where it has decided. Nearer classes change places by any rounding, and what
# shows none of a net's classes has many of those.
DECIDED = 0.1
ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and what it rests on; errors are of class probabilities.

    Agreement is the share of rows with the same best class as fp32: of all rows, of those that fp32 has decided,
    and of each source of rows.
    """

    precision: Precision
    reason: str
    rows: int
    top1_agreement: float
    decided_rows: int
    decided_agreement: float
    by_source: Mapping[str, float]
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
            "agreement_by_source": dict(self.by_source),
            "decided_rows": self.decided_rows,
            "decided_agreement": self.decided_agreement,
            "decided_by": DECIDED,
            "least_agreement": LEAST_AGREEMENT,
            "mean_error": self.mean_error,
            "max_error": self.max_error,
            "batch_sizes": list(BATCH_SIZES),
            "milliseconds": self.milliseconds,
        }


def try_eight_bits(
    manifest: Manifest, directory: Path, calibration: Array, held_out: Mapping[str, Array]
) -> Verdict:
    """Makes model.int8.onnx beside the exported net, of one input and with class scores as its first output.

    It stays only if it agrees: of the held-out rows, given by their source, that fp32 leads by DECIDED,
    LEAST_AGREEMENT have the same best class.
    """
    paths = {precision: directory / file for precision, file in ONNX_FILES.items()}
    name = manifest.inputs[0].name
    quantise(paths["fp32"], paths["int8"], name, calibration)
    runners = {precision: OnnxRunner(path, manifest) for precision, path in paths.items()}
    whole = np.concatenate(list(held_out.values()))
    wanted, got = (_scores(runner, manifest, whole) for runner in runners.values())
    verdict = _compare(wanted, got, {source: len(rows) for source, rows in held_out.items()})
    if verdict.decided_agreement < LEAST_AGREEMENT:
        paths["int8"].unlink()
        return verdict
    samples = [{name: whole[:rows]} for rows in BATCH_SIZES]
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


def _compare(wanted: Array, got: Array, sources: Mapping[str, int]) -> Verdict:
    errors = np.abs(wanted - got).max(axis=1)
    same, decided = wanted.argmax(axis=1) == got.argmax(axis=1), leads(wanted) >= DECIDED
    parts = np.split(same, np.cumsum(list(sources.values()))[:-1])
    return Verdict(
        precision="fp32",
        reason=f"int8 names another best class on over {1 - LEAST_AGREEMENT:.0%} of the rows that fp32 decided",
        rows=len(wanted),
        top1_agreement=float(same.mean()),
        decided_rows=int(decided.sum()),
        decided_agreement=float(same[decided].mean()) if decided.any() else 0.0,
        by_source={source: float(part.mean()) for source, part in zip(sources, parts, strict=True)},
        mean_error=float(errors.mean()),
        max_error=float(errors.max()),
    )


def leads(scores: Array) -> Array:
    """What the best class of each row [N, classes] is ahead of the second by."""
    second, best = np.sort(scores, axis=1)[:, -2:].T
    ahead: Array = best - second
    return ahead


def _decide(measured: Verdict) -> Verdict:
    fp32, int8 = (math.prod(measured.milliseconds[precision]) for precision in ("fp32", "int8"))
    if int8 < fp32:
        return replace(measured, precision="int8", reason="int8 agrees and is faster")
    return replace(measured, reason="int8 agrees and is no faster")
