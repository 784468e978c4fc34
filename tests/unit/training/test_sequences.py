"""Data sets of sequences read, cleaned and split without leaks; small classifiers that learn."""

import json
import tarfile
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from services.runtime.errors import InvalidInput
from services.sequence.models.lstm import LstmClassifier
from services.sequence.models.scaling import Scaling
from training.checkpoint import seed_everything
from training.data import spam
from training.data.basic_motions import read_arff
from training.data.labelled import Sequences, SequenceSplit, split_each_class, without_leaks
from training.data.texts import TextRow
from training.loop import Loop
from training.plan import Plan
from training.recipes.lstm_classify import manifest_fields, remember
from training.sequences import SequenceTraining, predict, series_batch

ARFF = """@relation made
@attribute relationalAtt relational
@end relationalAtt
@attribute activity {Still,Moving}

@data
"""


def waves(count: int, seed: int) -> Sequences:
    """Rising and falling series of unlike lengths and two features."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows = []
    for label in labels:
        slope = np.linspace(0, 1 if label else -1, draw.integers(6, 12))
        rows.append(np.stack([slope, draw.normal(size=len(slope))], 1))
    return Sequences(rows, labels.astype(np.int64), {"side": ["left", "right"] * (count // 2)})


def split() -> SequenceSplit:
    return SequenceSplit(
        waves(32, 1), waves(8, 2), waves(20, 3), ("falling", "rising"), "made", {"copies": ["one", "two"]}
    )


def training() -> SequenceTraining:
    seed_everything(0)
    rows = split()
    scaling = Scaling.of(np.concatenate(rows.train.rows))
    config = {"features": 2, "hidden_sizes": [8, 6], "classes": 2}
    net = LstmClassifier(config)
    return SequenceTraining(net, rows, partial(series_batch, scaling), manifest_fields(config, scaling))


def test_a_stacked_lstm_learns_and_reports_its_groups(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    work = training()
    Loop(work.job, Plan(epochs=15, batch_size=8, learning_rate=0.02), tmp_path).run()
    report = work.evaluate(work.net)
    assert report.metrics["accuracy"] >= 0.9
    assert report.baseline["accuracy"] == 0.5
    assert set(report.slices) == {"label", "side"}
    assert report.details["left_out"] == {"copies": ["one", "two"]}


def test_padding_and_neighbours_change_no_answer() -> None:
    work = training()
    rows = work.split.test.rows
    together = predict(work.net, rows, work.collate)
    alone = np.concatenate([predict(work.net, [row], work.collate) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_forget_gates_begin_open() -> None:
    layer = torch.nn.LSTM(3, 4)
    remember(layer)
    assert layer.bias_ih_l0.tolist() == [0] * 4 + [1] * 4 + [0] * 8
    recurrent = layer.weight_hh_l0.detach()
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(4), atol=1e-5, rtol=0)


def test_validation_rows_come_from_every_class_and_leaks_are_dropped() -> None:
    labels = np.array([0] * 5 + [1] * 7, np.int64)
    kept, chosen = split_each_class(labels, 2, 9)
    assert sorted([*kept, *chosen]) == list(range(12))
    assert np.bincount(labels[chosen]).tolist() == [2, 2]
    train = waves(6, 4)
    clean, dropped = without_leaks(train, train.select(np.array([1, 3])))
    assert dropped == ["row 1", "row 3"]
    assert clean.labels.tolist() == [0, 0, 0, 1]


def test_relational_arff(tmp_path: Path) -> None:
    path = tmp_path / "made.arff"
    path.write_text(ARFF + "'1,2,3\\n4,5,6',Moving\n'7,8,9\\n1,2,3',Still\n")
    names, rows = read_arff(path)
    assert names == ("Still", "Moving")
    assert rows.labels.tolist() == [1, 0]
    assert rows.rows[0].tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    "line", ["'1,2\\n3,4',Flying", "'1,2\\n3',Still", "'1,x\\n3,4',Still", "'1,nan\\n3,4',Still"]
)
def test_a_corrupt_row_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "made.arff"
    path.write_text(f"{ARFF}'1,2\\n3,4',Still\n{line}\n")
    with pytest.raises(InvalidInput, match=r"made.arff row 2"):
        read_arff(path)


RAW = """From someone@example.org  Thu Aug 22 12:36:23 2002
Received: from spam-filter.example.org
Subject: Re: [ILUG] =?utf-8?q?caf=C3=A9?= tonight
Content-Type: text/html; charset=nobody-knows
X-Spam-Status: Yes

<html><style>p {color: red}</style><p>Come &amp; see <b>us</b></p></html>
"""


def test_a_mail_keeps_subject_and_body_and_no_header() -> None:
    assert spam.plain(RAW) == "Re: café tonight\nCome & see us"


def package(path: Path, messages: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in messages.items():
            entry = tarfile.TarInfo(f"package/data/{name}.json")
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return path


def message(body: str) -> bytes:
    return json.dumps({"text": f"Subject: news\n\n{body}"}).encode()


def test_copies_and_empty_mails_are_left_out_and_counted(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    path = package(
        tmp_path / "p.tgz",
        {"easy-ham-1/1": message(text), "easy-ham-1/2": message(f"{text} 42!"), "spam-1/1": message("hi")},
    )
    kept, dropped = spam.cleaned(spam.read_archive(path))
    assert [(mail.label, mail.groups, mail.where) for mail in kept] == [
        ("ham", {"part": "easy-ham-1"}, "easy-ham-1/1")
    ]
    assert dropped == {
        "copy of an earlier message": ["easy-ham-1/2 = easy-ham-1/1"],
        "fewer than 20 letters": ["spam-1/1"],
    }
    broken = package(tmp_path / "b.tgz", {"spam-1/1": b"{}"})
    with pytest.raises(InvalidInput, match=r"spam-1/1.json"):
        list(spam.read_archive(broken))


def test_parts_are_balanced_and_disjoint() -> None:
    mails = [TextRow(f"text {i}", "spam" if i % 3 else "ham") for i in range(60)]
    parts = spam.split(mails, (10, 3, 5), 1)
    assert [sum(mail.label == "spam" for mail in part) for part in parts] == [10, 3, 5]
    assert [len(part) for part in parts] == [20, 6, 10]
    assert len({mail.text for part in parts for mail in part}) == 36
    assert parts == spam.split(mails, (10, 3, 5), 1)
    with pytest.raises(InvalidInput, match="ham are needed"):
        spam.split(mails, (10, 3, 8), 1)


def test_a_feature_without_spread_in_float32_stays_finite() -> None:
    values = np.array([[1.0, 0.0], [1.0, 1e-50]])
    assert np.isfinite(Scaling.of(values).apply(values)).all()
