"""Any stored vision version against labelled pictures, prepared and run as serving does. Knows no service."""

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
from services.runtime.runners.open import RunnerSettings, open_runner
from services.runtime.store.manifest import Manifest
from services.vision.models import registry
from training.classification import report_of
from training.data import emoji, fashion, mnist
from training.data.folder import Folder
from training.data.mnist import Fetch
from training.data.pictures import Pictures
from training.metrics import Floats
from training.recipe import Report

BATCH = 64
SETS = {"mnist": mnist.load, "fashion": fashion.load, "emoji": emoji.load}


def evaluate(manifest: Manifest, directory: Path, data: str, fetcher: Fetch) -> Report:
    """The report on the test rows of a named set, or on every picture of the folder `data`."""
    if data in SETS:
        split = SETS[data](fetcher)
        return evaluate_pictures(manifest, directory, split.test, split.class_names)
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise NotFound("data set or folder", data, SETS)
    return evaluate_folder(manifest, directory, Folder(folder))


def evaluate_folder(manifest: Manifest, directory: Path, folder: Folder) -> Report:
    """The report on every picture of a folder. A sub-folder's name is a label of the model, or its index."""
    preprocessing = _preprocessing(manifest)
    files: list[str] = []

    def rows() -> Iterator[tuple[Image.Image, str]]:
        for row in folder.rows(preprocessing.channels):
            files.append(row.file)
            yield row.image, row.label

    indices = label_indices(_labels(manifest, directory), folder.labels())
    probabilities, truth = _run(manifest, directory, rows(), indices)
    report = _report(manifest, directory, probabilities, truth, folder.slices(files))
    return replace(report, details={**report.details, "left_out": dict(folder.rejected)})


def evaluate_pictures(manifest: Manifest, directory: Path, test: Pictures, names: Sequence[str]) -> Report:
    """The report on pictures in memory; `names` are their classes, labels of the model too."""
    channels = _preprocessing(manifest).channels
    pixels = (row[:, :, 0] if row.shape[2] == 1 else row for row in test.pixels)
    images = (flatten(Image.fromarray(row), channels) for row in pixels)
    rows = zip(images, (names[label] for label in test.labels), strict=True)
    indices = label_indices(_labels(manifest, directory), names)
    probabilities, truth = _run(manifest, directory, rows, indices)
    return _report(manifest, directory, probabilities, truth, test.groups)


def label_indices(labels: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Class name → output of the model: by its label, else as a number. InvalidInput names what fits neither."""
    places = {name: place for place, name in reversed(list(enumerate(labels)))}
    places |= {str(place): place for place in range(len(labels)) if str(place) not in places}
    strange = [name for name in names if name not in places]
    if strange:
        known = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
        raise InvalidInput("data", f"the model has no label {', '.join(strange[:5])}; it has {known}")
    return {name: places[name] for name in names}


def _preprocessing(manifest: Manifest) -> ImagePreprocessing:
    if "vision.classify" not in manifest.tasks:
        raise InvalidInput("model", f"{manifest.name} does {', '.join(manifest.tasks)}; vision.classify is needed")
    return ImagePreprocessing.of(manifest)


def _labels(manifest: Manifest, directory: Path) -> list[str]:
    if manifest.labels is None:
        return [str(place) for place in range(manifest.outputs[0].shape[-1])]
    return (directory / manifest.labels).read_text(encoding="utf-8").splitlines()


def _run(
    manifest: Manifest, directory: Path, rows: Iterable[tuple[Image.Image, str]], indices: Mapping[str, int]
) -> tuple[Floats, list[int]]:
    """(probabilities [N, classes], class of each row), by the runner that the manifest names."""
    preprocessing = _preprocessing(manifest)
    runner = open_runner(manifest, directory, registry.load, RunnerSettings())
    parts, truth = [], []
    try:
        waiting = iter(rows)
        while batch := list(islice(waiting, BATCH)):
            parts.append(_probabilities(runner, manifest, [preprocessing.apply(image) for image, _ in batch]))
            truth += [indices[name] for _, name in batch]
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
    manifest: Manifest,
    directory: Path,
    probabilities: Floats,
    truth: list[int],
    groups: Mapping[str, Sequence[str]],
) -> Report:
    labels = np.array(truth, np.int64)
    majority = int(np.bincount(labels).argmax())
    return report_of(probabilities, labels, _labels(manifest, directory), groups, majority)
