"""Of a named set, an evaluation judges the rows that its recipe tests on, and finds what the recipe would."""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch

from services.runtime.store.sources.fetcher import Fetcher
from services.sequence.models.scaling import Scaling
from tests.unit.training import stored
from training.data import basic_motions, kjv, spam, sunspots
from training.forecasting import ForecastTraining
from training.recipes.bert_classify import BertPlan, encoded, spam_parts, text_batch, tokenizer_of
from training.sequences import SequenceTraining, predict, series_batch

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_sunspots(tmp_path: Path, fetcher: Fetcher) -> None:
    model = stored.forecaster(tmp_path / "store", plan={"horizon": 11})
    work = ForecastTraining(model.net, sunspots.load(fetcher), stored.WINDOW, 11, "rnn_forecaster", {})
    work.scaling = Scaling.read(model.manifest.preprocessing)
    work._scores = work.scaling.apply(work.split.values)
    wanted, found = work.evaluate(model.net), model.evaluate("sunspots", fetcher)
    for name, value in wanted.metrics.items():
        assert found.metrics[name] == pytest.approx(value, rel=1e-5), name
    assert found.baseline["mse"] == pytest.approx(wanted.baseline["mse"])
    assert found.details["targets"] == 59 and found.details["season"] == 11
    assert found.slices["period"].keys() == {f"{year} to {year + 9}" for year in range(1950, 2010, 10)}


def test_basic_motions(tmp_path: Path, fetcher: Fetcher) -> None:
    split = basic_motions.load(fetcher)
    scaling = Scaling.of(np.concatenate(split.train.rows))
    model = stored.series_classifier(tmp_path / "store", labels=split.class_names, scaling=scaling)
    wanted = SequenceTraining(model.net, split, partial(series_batch, scaling), {}).evaluate(model.net)
    found = model.evaluate("basic-motions", fetcher)
    assert found.metrics == pytest.approx(wanted.metrics, abs=1e-6)
    assert found.details["confusion"] == wanted.details["confusion"]
    assert sum(told["count"] for told in found.slices["label"].values()) == 40


def test_mail(tmp_path: Path, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spam, "load", cache(spam.load))  # ten thousand files are read once
    plan = BertPlan(rows=40, test_rows=30)
    model = stored.text_classifier(tmp_path / "store", source=spam.SOURCE, plan=plan.model_dump())
    found = model.evaluate("spam", fetcher)
    parts = spam_parts(plan, fetcher)
    words = tokenizer_of(model.store.directory(model.manifest) / "tokenizer.json")
    rows = encoded(words, parts.parts[2], parts.names, stored.CUT)
    right = predict(model.net, rows.rows, partial(text_batch, 0)).argmax(1) == rows.labels
    assert found.metrics["accuracy"] == pytest.approx(right.mean())
    assert sum(told["count"] for told in found.slices["part"].values()) == 60
    assert "rows=40 test_rows=30" in found.details["note"]


def test_the_bible(tmp_path: Path, fetcher: Fetcher) -> None:
    model = stored.language_model(tmp_path / "store", positions=64)
    found = model.evaluate("kjv", fetcher, characters=0)
    test = kjv.load(fetcher).test
    assert found.details["texts"] == len(test) == 59
    assert found.details["characters"] == sum(len(document.text) for document in test)
    assert sum(told["count"] for told in found.slices["group"].values()) == 59
