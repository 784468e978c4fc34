"""Classifiers of series and of texts, prepared and run as serving does. Knows no service and no architecture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from services.runtime.errors import InvalidInput
from services.runtime.runners.open import open_runner
from services.runtime.text import tokenizer as tokenizers
from services.sequence.models import encode, registry
from services.sequence.models.net import Net
from services.sequence.models.predict import predict_rows, predict_series
from services.sequence.models.scaling import Scaling
from training.classification import report_of
from training.data import basic_motions, json_lines, labelled_csv, spam, texts
from training.data.labelled import Row, Sequences
from training.data.texts import TextRow
from training.judges.subject import (
    LEARNT,
    Question,
    Subject,
    file_of,
    label_indices,
    learnt_from,
    places_of,
    runner_settings,
)
from training.metrics import Floats
from training.recipe import Report
from training.recipes.bert_classify import BertPlan, spam_parts

BATCH = 64
MOTIONS, SPAM = "basic-motions", "spam"
SETS = (MOTIONS, SPAM)

Predict = Callable[[Net, Sequence[Any]], list[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """What the net reads, the class of each row by name, its groups, and what was left out, by reason."""

    inputs: Sequence[Row]
    labels: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    left_out: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def judge(subject: Subject, question: Question) -> Report:
    """The test rows of a named set, or every row of a file that the model did not learn from."""
    if encode.is_series(subject.manifest):
        return _report(subject, question, series_rows(subject, question), predict_series)
    if subject.manifest.tokenizer is not None:
        return _report(subject, question, text_rows(subject, question), predict_rows)
    told = "hears a stream, and no data format tells the truth of one; series and texts can be evaluated"
    raise InvalidInput("model", f"{subject.manifest.name} {told}")


def series_rows(subject: Subject, question: Question) -> Rows:
    """Standard scores [T, F], as Classify makes them. InvalidInput for another number of features."""
    if question.data == MOTIONS:
        split = basic_motions.load(subject.fetcher)
        return _scored(subject, split.test, split.class_names, {}, "")
    found = labelled_csv.load(file_of(question, [MOTIONS]))
    seen = learnt_from(subject, question, found.file.sha256)
    rows = _in_order(subject, found.features, labelled_csv.split(found).test if seen else found.every)
    return _scored(subject, rows, found.class_names, found.left_out, LEARNT if seen else "")


def _in_order(subject: Subject, features: Sequence[str], rows: Sequences) -> Sequences:
    """The features in the order that the model learnt them in, where it knows their names."""
    places = places_of(subject, features)
    return Sequences([row[:, places] for row in rows.rows], rows.labels, rows.groups)


def _scored(
    subject: Subject, rows: Sequences, names: Sequence[str], left_out: Mapping[str, Any], note: str
) -> Rows:
    manifest, scaling = subject.manifest, Scaling.read(subject.manifest.preprocessing)
    most = manifest.limits.get("max_values")
    fits = [i for i, row in enumerate(rows.rows) if most is None or row.size <= most]
    long = [f"series {i + 1}" for i in sorted(set(range(len(rows))) - set(fits))]
    kept = rows.select(np.array(fits, np.int64))
    inputs = [scaling.apply(encode.check_steps(row, manifest, "data")) for row in kept.rows]
    told = {**left_out, "longer than the model reads": long}
    return Rows(inputs, [names[label] for label in kept.labels], kept.groups, told, note)


def text_rows(subject: Subject, question: Question) -> Rows:
    """Ids [T], as Classify makes them; a text that it would refuse is left out."""
    if question.data == SPAM:
        return _mails(subject)
    found = json_lines.load(file_of(question, [SPAM]), labelled=True)
    if not learnt_from(subject, question, found.file.sha256):
        return _encoded(subject, found.rows, found.left_out, note="")
    return _encoded(subject, json_lines.split(found)[2], found.left_out, note=LEARNT)


def _mails(subject: Subject) -> Rows:
    """The test part of the cut that the model was trained by, else of the recipe's own."""
    trained = subject.manifest.provenance.source == spam.SOURCE
    sizes = {key: subject.plan[key] for key in ("rows", "test_rows") if trained and key in subject.plan}
    plan = BertPlan(**sizes)
    found = spam_parts(plan, subject.fetcher)
    own = (plan.rows, plan.test_rows) != (BertPlan().rows, BertPlan().test_rows)
    note = f"test rows of the cut it was trained by: rows={plan.rows} test_rows={plan.test_rows}" if own else ""
    return _encoded(subject, found.parts[2], found.left_out, note)


def _encoded(subject: Subject, rows: Sequence[TextRow], left_out: Mapping[str, Any], note: str) -> Rows:
    manifest, words = subject.manifest, tokenizers.load(subject.manifest, subject.directory)
    limit, cut = encode.max_tokens(manifest), encode.cuts(manifest)
    inputs, kept, refused = [], [], []
    for row in rows:
        try:
            inputs.append(encode.text_to_ids(words, row.text, limit, cut, row.where))
            kept.append(row)
        except InvalidInput as error:
            refused.append(error.message)
    told = {**left_out, "refused by the model": refused}
    return Rows(inputs, [row.label for row in kept], texts.slices(kept), told, note)


def _report(subject: Subject, question: Question, rows: Rows, predict: Predict) -> Report:
    """Beside the class that most of these rows have."""
    if not rows.inputs:
        raise InvalidInput("data", "holds no row that the model can read")
    indices = label_indices(subject.labels, sorted(set(rows.labels)))
    truth = np.array([indices[name] for name in rows.labels], np.int64)
    probabilities = _predicted(subject, question, rows.inputs, predict)
    report = report_of(probabilities, truth, subject.labels, rows.groups, int(np.bincount(truth).argmax()))
    more = {"left_out": dict(rows.left_out), **({"note": rows.note} if rows.note else {})}
    return replace(report, details={**report.details, **more})


def _predicted(subject: Subject, question: Question, rows: Sequence[Row], predict: Predict) -> Floats:
    """float32 [N, classes] probabilities, by the runner that the manifest names; rows of like length together."""
    runner = open_runner(subject.manifest, subject.directory, registry.load, runner_settings(question))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    found: dict[int, Any] = {}
    try:
        for at in range(0, len(order), BATCH):
            part = order[at : at + BATCH]
            answers = predict(Net(runner, subject.manifest), [rows[index] for index in part])
            found.update(zip(part, answers, strict=True))
            subject.tell(len(found), len(rows))
    finally:
        runner.close()
    return np.stack([found[index] for index in range(len(rows))])
