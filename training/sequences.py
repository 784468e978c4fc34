"""Sequence classifiers: cross entropy from logits, rows of any length padded. Knows no architecture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.sequence.models.scaling import Scaling
from training import metrics
from training.classification import report_of
from training.data.cut import named
from training.data.labelled import Row, Sequences, SequenceSplit
from training.loop import Job
from training.recipe import Report

Inputs = tuple[Tensor, ...]
Collate = Callable[[Sequence[Row]], Inputs]
EVALUATION_BATCH = 64


class SequenceRows:
    """Training rows for the loop, padded batch by batch."""

    def __init__(self, sequences: Sequences, collate: Collate) -> None:
        self._rows, self._collate = sequences.rows, collate
        self._labels = torch.from_numpy(sequences.labels)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The net's inputs for these rows, and int64 [batch] classes."""
        return self._collate([self._rows[i] for i in indices.tolist()]), self._labels[indices]


class SequenceTraining:
    """A net whose first output is logits [B, classes]; `collate` makes its inputs from rows of one split.

    `fields` are the manifest's, but for labels and provenance.
    """

    def __init__(self, net: nn.Module, split: SequenceSplit, collate: Collate, fields: Mapping[str, Any]) -> None:
        self.net, self.split, self.collate = net, split, collate
        self._fields = fields

    @property
    def job(self) -> Job:
        return Job(self.net, SequenceRows(self.split.train, self.collate), cross_entropy, self._validate)

    def evaluate(self, model: nn.Module) -> Report:
        """The test rows beside the most frequent class of the training rows."""
        test = self.split.test
        majority = int(np.bincount(self.split.train.labels).argmax())
        found = predict(model, test.rows, self.collate)
        report = report_of(found, test.labels, self.split.class_names, test.groups, majority)
        return replace(report, details={**report.details, "left_out": named(self.split.dropped)})

    def fields(self) -> dict[str, Any]:
        split = self.split
        provenance = {"source": split.source, "sha256": split.sha256, "notes": split.told()}
        return {"tasks": ["sequence.classify"], "labels": "labels.txt", "provenance": provenance, **self._fields}

    def data(self) -> dict[str, Any]:
        return {"parts": self.split.parts(), "left_out": dict(self.split.dropped)}

    def labels(self) -> tuple[str, ...]:
        return self.split.class_names

    def _validate(self, model: nn.Module) -> dict[str, float]:
        """Few rows choose, so the score is their likelihood: accuracy alone would tie."""
        rows = self.split.validation
        found = predict(model, rows.rows, self.collate)
        loss = -float(np.log(np.maximum(found[np.arange(len(rows)), rows.labels], 1e-12)).mean())
        return {"accuracy": metrics.accuracy(found.argmax(1), rows.labels), "loss": loss, "score": -loss}


def cross_entropy(model: nn.Module, batch: tuple[Inputs, Tensor]) -> Tensor:
    """−(1/N) Σ ln softmax(z)ᵢ[yᵢ] (Bishop 2006, eq. 4.108), from logits: softmax must not come before it."""
    inputs, labels = batch
    return F.cross_entropy(model(*inputs)[0], labels)


def predict(model: nn.Module, rows: Sequence[Row], collate: Collate) -> metrics.Floats:
    """float32 [N, classes] probabilities. Rows of like length share a batch."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    parts = [order[at : at + EVALUATION_BATCH] for at in range(0, len(order), EVALUATION_BATCH)]
    with torch.inference_mode():
        found = [F.softmax(model(*collate([rows[i] for i in part]))[0], 1) for part in parts]
    return torch.cat(found)[torch.tensor(order).argsort()].numpy()


def series_batch(scaling: Scaling, rows: Sequence[Row]) -> Inputs:
    """Standard scores float32 [B, T, F], zeros after each row's end, and int64 [B] lengths."""
    scores = [torch.from_numpy(scaling.apply(row)) for row in rows]
    padded = nn.utils.rnn.pad_sequence(scores, batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])
