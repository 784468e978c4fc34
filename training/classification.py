"""Picture classifiers: cross entropy, accuracy, per-class scores, calibration, slices. Knows no architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import metrics
from training.data.cut import named
from training.data.pictures import Normalisation, PictureRows, Split
from training.loop import Job
from training.recipe import Report

EVALUATION_BATCH = 1024


class PictureTraining:
    """A net that maps float32 [N, C, H, W] to (logits, features), on one split.

    `private`: the normalisation is fixed, since the training rows' own mean and deviation would tell of them.
    """

    def __init__(
        self, net: nn.Module, split: Split, architecture: str, config: dict[str, Any], private: bool = False
    ) -> None:
        self.split, self.net = split, net
        channels = split.train.pixels.shape[-1]
        self.normalisation = Normalisation.fixed(channels) if private else Normalisation.of(split.train)
        self._architecture, self._config = architecture, config
        self._validation = self.normalisation.apply(split.validation.pixels)

    @property
    def job(self) -> Job:
        rows = PictureRows(self.split.train, self.normalisation)
        return Job(self.net, rows, cross_entropy, self._validate)

    def evaluate(self, model: nn.Module) -> Report:
        """The test rows beside the most frequent class of the training rows."""
        probabilities = predict(model, self.normalisation.apply(self.split.test.pixels))
        majority = int(np.bincount(self.split.train.labels).argmax())
        test = self.split.test
        report = report_of(probabilities, test.labels, self.split.class_names, test.groups, majority)
        return replace(report, details={**report.details, "left_out": named(self.split.dropped)})

    def fields(self) -> dict[str, Any]:
        channels, height, width = (int(n) for n in self._validation.shape[1:])
        classes = len(self.split.class_names)
        with torch.inference_mode():
            features = int(self.net.eval()(self._validation[:1])[1].shape[1])
        return {
            "tasks": ["vision.classify", "vision.embed"],
            "architecture": self._architecture,
            "config": self._config,
            "labels": "labels.txt",
            "description": f"{height}x{width}x{channels} pictures: {classes} classes, {features} features",
            "licence": self.split.licence,
            "inputs": [{"name": "images", "dtype": "float32", "shape": [-1, channels, height, width]}],
            "outputs": [
                {"name": "logits", "dtype": "float32", "shape": [-1, classes]},
                {"name": "features", "dtype": "float32", "shape": [-1, features]},
            ],
            "preprocessing": self.normalisation.fields(height, channels),
            "provenance": {
                "source": self.split.source,
                "sha256": self.split.digest,
                "notes": self.split.told(),
            },
        }

    def data(self) -> dict[str, Any]:
        return {"parts": self.split.parts(), "left_out": dict(self.split.dropped)}

    def labels(self) -> tuple[str, ...]:
        return self.split.class_names

    def _validate(self, model: nn.Module) -> dict[str, float]:
        predicted = predict(model, self._validation).argmax(1)
        accuracy = metrics.accuracy(predicted, self.split.validation.labels)
        return {"accuracy": accuracy, "score": accuracy}


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """−(1/N) Σ ln softmax(z)ᵢ[yᵢ] (Bishop 2006, eq. 4.108), from logits: softmax must not come before it."""
    pixels, labels = batch
    return F.cross_entropy(model(pixels)[0], labels)


def predict(model: nn.Module, pixels: Tensor) -> metrics.Floats:
    """float32 [N, classes] probabilities."""
    model.eval()
    with torch.inference_mode():
        parts = [F.softmax(model(part)[0], 1) for part in torch.split(pixels, EVALUATION_BATCH)]
    return torch.cat(parts).numpy()


def report_of(
    probabilities: metrics.Floats,
    truth: metrics.Labels,
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    majority: int,
) -> Report:
    """Accuracy, macro F1 over the classes that occur, ECE; the same by class and by group; the confusion.

    `probabilities` [N, classes], `truth` [N]; the baseline always says class `majority`.
    """
    predicted = probabilities.argmax(1)
    table = metrics.confusion(predicted, truth, len(names))
    # A row of a name that two classes have is one of the first of them.
    scores = dict(reversed(list(zip(names, metrics.class_scores(table), strict=True))))
    found = {
        "accuracy": metrics.accuracy(predicted, truth),
        "macro_f1": metrics.macro_f1(predicted, truth, len(names)),
        "ece": metrics.expected_calibration_error(probabilities, truth),
    }
    slices = {"label": [names[label] for label in truth], **groups}
    return Report(
        found,
        {"accuracy": float(np.mean(truth == majority))},
        {name: slice_scores(values, probabilities, truth) for name, values in slices.items()},
        {"confusion": table.tolist(), "classes": {name: asdict(scores[name]) for name in dict.fromkeys(names)}},
    )


def slice_scores(
    groups: Sequence[str], probabilities: metrics.Floats, truth: metrics.Labels
) -> dict[str, dict[str, float]]:
    """Each group's accuracy and the interval it lies in with 95 % confidence, macro F1, ECE, and count of rows."""
    names = np.asarray(groups)
    return {str(name): _told(probabilities[names == name], truth[names == name]) for name in np.unique(names)}


def _told(probabilities: metrics.Floats, truth: metrics.Labels) -> dict[str, float]:
    predicted = probabilities.argmax(1)
    low, high = metrics.wilson_interval(int((predicted == truth).sum()), len(truth))
    return {
        "accuracy": metrics.accuracy(predicted, truth),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": metrics.macro_f1(predicted, truth, probabilities.shape[1]),
        "ece": metrics.expected_calibration_error(probabilities, truth),
        "count": float(len(truth)),
    }
