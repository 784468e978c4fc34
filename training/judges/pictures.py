"""Picture classifiers against labelled pictures, prepared and run as serving does. Knows no service."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.pictures.decode import flatten
from services.runtime.pictures.preprocess import ImagePreprocessing, Pixels
from services.runtime.runners.base import Runner
from services.runtime.runners.open import open_runner
from services.runtime.store.manifest import Manifest
from services.vision.models import registry
from training.classification import report_of
from training.data import emoji, fashion, folder, mnist
from training.data.folder import Folder
from training.data.pictures import Pictures
from training.judges.subject import LEARNT, Question, Subject, label_indices, learnt_from, runner_settings
from training.metrics import Floats
from training.recipe import Report

BATCH = 64
SETS = {"mnist": mnist.load, "fashion": fashion.load, "emoji": emoji.load}


def judge(subject: Subject, question: Question) -> Report:
    """The test rows of a named set, or every picture of a folder that the model did not learn from."""
    if question.data in SETS:
        split = SETS[question.data](subject.fetcher)
        return judge_pictures(subject, question, split.test, split.class_names)
    root = Path(question.data).expanduser()
    if not root.is_dir():
        raise NotFound("data set or folder", question.data, SETS)
    return judge_test_rows(subject, question, root) or judge_folder(subject, question, Folder(root))


def judge_test_rows(subject: Subject, question: Question, root: Path) -> Report | None:
    """The test rows of the folder's own cut if the model learnt from its training rows, else None."""
    manifest, scale = subject.manifest, ImagePreprocessing.of(subject.manifest)
    may_have = bool(question.seen) or manifest.provenance.source.startswith("folder ")
    if not may_have or scale.resize != "exact":
        return None
    try:
        split = folder.load(root, scale.size, scale.channels)
    except InvalidInput:  # what cannot be cut was not learnt from
        return None
    if not learnt_from(subject, question, split.digest):
        return None
    found = judge_pictures(subject, question, split.test, split.class_names)
    return replace(found, details={**found.details, "left_out": dict(split.dropped), "note": LEARNT})


def judge_folder(subject: Subject, question: Question, own: Folder) -> Report:
    """Every picture of a folder. A sub-folder's name is a label of the model, or its index."""
    channels = ImagePreprocessing.of(subject.manifest).channels
    files: list[str] = []

    def rows() -> Iterator[tuple[Image.Image, str]]:
        for row in own.rows(channels):
            files.append(row.file)
            yield row.image, row.label

    indices = label_indices(subject.labels, own.labels())
    probabilities, truth = _run(subject, question, rows(), indices)
    report = _report(subject, probabilities, truth, own.slices(files))
    return replace(report, details={**report.details, "left_out": dict(own.rejected)})


def judge_pictures(subject: Subject, question: Question, test: Pictures, names: Sequence[str]) -> Report:
    """Pictures in memory; `names` are their classes, labels of the model too."""
    channels = ImagePreprocessing.of(subject.manifest).channels
    pixels = (row[:, :, 0] if row.shape[2] == 1 else row for row in test.pixels)
    images = (flatten(Image.fromarray(row), channels) for row in pixels)
    rows = zip(images, (names[label] for label in test.labels), strict=True)
    indices = label_indices(subject.labels, names)
    probabilities, truth = _run(subject, question, rows, indices, len(test))
    return _report(subject, probabilities, truth, test.groups)


def _run(
    subject: Subject,
    question: Question,
    rows: Iterable[tuple[Image.Image, str]],
    indices: Mapping[str, int],
    of: int | None = None,
) -> tuple[Floats, list[int]]:
    """(probabilities [N, classes], class of each row), by the runner that the manifest names."""
    preprocessing = ImagePreprocessing.of(subject.manifest)
    runner = open_runner(subject.manifest, subject.directory, registry.load, runner_settings(question))
    parts, truth = [], []
    try:
        waiting = iter(rows)
        while batch := list(islice(waiting, BATCH)):
            parts.append(
                _probabilities(runner, subject.manifest, [preprocessing.apply(image) for image, _ in batch])
            )
            truth += [indices[name] for _, name in batch]
            subject.tell(len(truth), of)
    finally:
        runner.close()
    if not parts:
        raise InvalidInput("data", "holds no picture that can be read")
    return np.concatenate(parts), truth


def _probabilities(runner: Runner, manifest: Manifest, pixels: Sequence[Pixels]) -> Floats:
    """softmax(z) = e^(z − max z) / Σ e^(z − max z)."""
    logits = runner.run({manifest.inputs[0].name: np.stack(pixels)})["logits"]
    raised = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Floats = raised / raised.sum(1, keepdims=True)
    return probabilities


def _report(
    subject: Subject, probabilities: Floats, truth: list[int], groups: Mapping[str, Sequence[str]]
) -> Report:
    """Beside the class that most of these rows have."""
    labels = np.array(truth, np.int64)
    return report_of(probabilities, labels, subject.labels, groups, int(np.bincount(labels).argmax()))
