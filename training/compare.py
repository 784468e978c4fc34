"""Stored versions side by side: what they are, how they measured, how big, how fast, and what is not comparable.

Draws nothing. The choice is the reader's.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open

from services.runtime.errors import InvalidInput
from services.runtime.store.manifest import Manifest
from services.runtime.store.store import ModelStore
from training.comparable import decisive
from training.data.mnist import Fetch
from training.evaluation import evaluate
from training.judges.card import EVALUATIONS
from training.judges.subject import Question, Tell, silent
from training.latency import Latency, measure
from training.recipe import Report
from training.slices import Worst, metric_of, worst_of

CONTEXT = 512  # most tokens that language models see at once when they are measured on the same text
PER_TOKEN = ("loss", "perplexity", "accuracy")


@dataclass(frozen=True, slots=True)
class Side:
    """One version. `report` is of the same rows as the others'; without it the card's figures are told."""

    manifest: Manifest
    card: Mapping[str, Any]
    parameters: int
    size_bytes: int
    latency: Latency = field(default_factory=Latency)
    report: Report | None = None

    @property
    def name(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.report.metrics if self.report else self.card.get("metrics", {})

    @property
    def baseline(self) -> Mapping[str, float]:
        return self.report.baseline if self.report else self.card.get("baseline", {})

    @property
    def worst(self) -> dict[str, Worst]:
        """Of each slice the group that is served worst."""
        slices = self.report.slices if self.report else self.card.get("slices", {})
        judged = {name: metric_of(groups, self.metrics) for name, groups in slices.items() if groups}
        return {name: worst_of(slices[name], metric) for name, metric in judged.items() if metric}

    @property
    def evaluations(self) -> dict[str, Mapping[str, float]]:
        """Metrics that `maas evaluate --save` put into the card, by the name of their data."""
        return {data: found["metrics"] for data, found in self.card.get(EVALUATIONS, {}).items()}

    @property
    def source(self) -> str:
        return self.manifest.provenance.source

    @property
    def trained(self) -> bool:
        """Whether it was trained here, so that `source` is of its data; else it is of its weights."""
        return "plan" in self.card


def side_of(store: ModelStore, told: str) -> Side:
    """`NAME` or `NAME@VERSION`, a number or a label. ModelNotFound names what exists; PreconditionFailed: a
    damaged file."""
    name, _, version = told.partition("@")
    manifest = store.resolve(name, version)
    store.verify(manifest)  # figures of a damaged version would be another's
    directory = store.directory(manifest)
    size = sum((directory / member).stat().st_size for member in manifest.files)
    return Side(manifest, store.card(manifest), parameters_of(manifest, directory), size)


def sides_of(store: ModelStore, told: Sequence[str]) -> list[Side]:
    """InvalidInput for fewer than two, or for one version twice."""
    sides = [side_of(store, one) for one in told]
    if len({side.name for side in sides}) < max(2, len(sides)):
        raise InvalidInput(
            "models", f"name two or more different versions, as NAME or NAME@VERSION: {' '.join(told)}"
        )
    return sides


def parameters_of(manifest: Manifest, directory: Path) -> int:
    """Numbers in the weight files; those of a shared head count once."""
    return sum(_numbers(directory / member) for member in manifest.files if member.endswith(".safetensors"))


def timed(side: Side, directory: Path) -> Side:
    return replace(side, latency=measure(side.manifest, directory))


def judged(side: Side, directory: Path, question: Question, fetcher: Fetch, tell: Tell = silent) -> Side:
    """Measured on the question's rows."""
    return replace(side, report=evaluate(side.manifest, directory, question, fetcher, tell))


def question_of(data: str, sides: Iterable[Side]) -> Question:
    """The same for all: language models see as many tokens at once as the shortest-sighted can or was trained to,
    and of data that one was trained on all are judged by the test rows."""
    every = list(sides)
    limits = [side.manifest.limits.get("max_tokens", CONTEXT) for side in every]
    limits += [int(side.card.get("plan", {}).get("context", CONTEXT)) for side in every]
    return Question(
        data, context=min([CONTEXT, *limits]), seen=tuple(side.manifest.provenance.sha256 for side in every)
    )


def warnings(sides: Sequence[Side]) -> list[str]:
    """Why figures of these sides must not be held against each other; empty where they may."""
    found = [_tasks(sides), *(_fresh(sides) if any(side.report for side in sides) else _cards(sides))]
    return [told for told in (*found, _tokenizers(sides)) if told]


def told(side: Side) -> dict[str, Any]:
    """Plain data; figures that are no numbers are None."""
    manifest, latency = side.manifest, side.latency
    worst = {
        name: {"group": w.group, w.metric: w.value, "gap": w.gap, "rows": w.rows} for name, w in side.worst.items()
    }
    return {
        "model": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "tasks": list(manifest.tasks),
        "architecture": manifest.architecture,
        "trained_here": side.trained,
        "source": {"source": side.source, "sha256": manifest.provenance.sha256},
        "metrics": {key: _finite(value) for key, value in side.metrics.items()},
        "baseline": {key: _finite(value) for key, value in side.baseline.items()},
        "evaluations": {data: dict(found) for data, found in side.evaluations.items()},
        "worst": worst,
        "privacy": side.card.get("details", {}).get("privacy"),
        "parameters": side.parameters,
        "size_bytes": side.size_bytes,
        "runner": manifest.runner,
        "precision": manifest.precision,
        "latency": {"median_ms": dict(latency.median_ms), "runs": latency.runs, "note": latency.note},
    }


def _tasks(sides: Sequence[Side]) -> str:
    common = set.intersection(*(set(side.manifest.tasks) for side in sides))
    if common:
        return ""
    return "no task in common: " + "; ".join(
        f"{side.name} does {', '.join(side.manifest.tasks)}" for side in sides
    )


def _cards(sides: Sequence[Side]) -> list[str]:
    """Figures of cards are comparable if they come from the same data, cut the same way."""
    silent = [side.name for side in sides if not side.metrics]
    measured = [side for side in sides if side.metrics]
    sources = {(side.source, side.manifest.provenance.sha256) for side in measured}
    settings = {json.dumps(decisive(side.card.get("plan", {})), sort_keys=True) for side in measured}
    return [
        f"no figures in the card of {', '.join(silent)}" if silent else "",
        _each("the cards' figures come from different data", measured, _told_data) if len(sources) > 1 else "",
        _each("the cards' figures come from other rows or units", measured, _told_settings)
        if len(sources) == 1 and len(settings) > 1
        else "",
    ]


def _fresh(sides: Sequence[Side]) -> list[str]:
    """Of data that one of them was trained on, another may be unable to find the test rows: a folder's depend on
    the size of the pictures it reads, a named set's on how many it was trained on."""
    notes = {side.name: str(side.report.details.get("note", "")) if side.report else "" for side in sides}
    if len(set(notes.values())) == 1:
        return []
    return ["not the same rows: " + "; ".join(f"{name}: {note or 'all rows'}" for name, note in notes.items())]


def _tokenizers(sides: Sequence[Side]) -> str:
    """Per token means little where tokens differ."""
    speakers = [side for side in sides if side.manifest.serves("generation") and side.metrics]
    files = {_tokenizer(side.manifest) for side in speakers}
    told = f"tokenizers differ, and {', '.join(PER_TOKEN)} are per token: compare bits_per_byte (--data tells it)"
    return told if len(files) > 1 else ""


def _tokenizer(manifest: Manifest) -> str:
    """Hash of its file."""
    return manifest.files.get(manifest.tokenizer.file, "") if manifest.tokenizer else ""


def _each(what: str, sides: Sequence[Side], tell: Any) -> str:
    return f"{what}: " + "; ".join(f"{side.name}: {tell(side)}" for side in sides)


def _told_data(side: Side) -> str:
    sha256 = side.manifest.provenance.sha256
    return (side.source or "unknown") + (f" ({sha256[:12]})" if sha256 else "")


def _told_settings(side: Side) -> str:
    return " ".join(f"{key}={value}" for key, value in decisive(side.card.get("plan", {})).items())


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _numbers(path: Path) -> int:
    with safe_open(path, "numpy") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
