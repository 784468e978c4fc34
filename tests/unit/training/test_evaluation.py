"""Stored classifiers and forecasters against truth computed apart from their judges; slices, leaks, refusals."""

import hashlib
import json
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from services.runtime.errors import InvalidInput, NotFound
from services.runtime.store.manifest import Manifest
from services.runtime.text import tokenizer
from services.runtime.text.truncation import Truncation, truncate
from tests.unit.training import stored
from training.data import json_lines, labelled_csv
from training.evaluation import evaluate
from training.judges import card
from training.recipe import Report

Series = dict[str, tuple[str, str, np.ndarray]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def some_series(count: int = 30) -> Series:
    """name → (label, side, values [T, 2])."""
    draw = np.random.default_rng(8)
    sides, labels = ["left", "left", "right"], ["falling", "rising"]
    shapes = [(draw.integers(3, 9), 2) for _ in range(count)]
    return {f"s{i}": (labels[i % 2], sides[i % 3], draw.normal(1, 2, shape)) for i, shape in enumerate(shapes)}


def write_series(path: Path, rows: Series) -> Path:
    lines = ["series,step,b,label,a,slice_side"]
    for name, (label, side, values) in rows.items():
        lines += [f"{name},{step},{b!r},{label},{a!r},{side}" for step, (a, b) in enumerate(values.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return path


def said_of_series(model: stored.Stored, values: np.ndarray) -> np.ndarray:
    """[classes], one row alone, scaled by hand."""
    scores = (values.astype(np.float32) - np.float32([2.0, -1.0])) / np.float32([3.0, 0.5])
    with torch.no_grad():
        return F.softmax(model.net(torch.from_numpy(scores)[None], torch.tensor([len(scores)]))[0][0], 0).numpy()


def test_series_of_a_file_are_read_scaled_and_told_by_class_and_column(tmp_path: Path) -> None:
    model, rows = stored.series_classifier(tmp_path / "store", ["a", "b"]), some_series()
    report = model.evaluate(write_series(tmp_path / "own.csv", rows))
    right = {
        n: said_of_series(model, v).argmax() == ("falling", "rising").index(la) for n, (la, _, v) in rows.items()
    }
    assert report.metrics["accuracy"] == pytest.approx(np.mean(list(right.values())))
    for side, count in (("left", 20), ("right", 10)):
        told = report.slices["side"][side]
        assert told["count"] == count
        assert told["accuracy"] == pytest.approx(np.mean([right[n] for n, (_, s, _) in rows.items() if s == side]))
        assert told["accuracy_low"] < told["accuracy"] < told["accuracy_high"]
        write_series(tmp_path / "part.csv", {n: row for n, row in rows.items() if row[1] == side})
        alone = model.evaluate(tmp_path / "part.csv").metrics
        assert {name: told[name] for name in alone} == pytest.approx(alone), (
            "a group tells what its rows alone would"
        )
    assert report.details["small_groups"] == {"label": ["falling", "rising"], "side": ["right"]}
    assert report.baseline["accuracy"] == 0.5
    assert set(model.evaluate(tmp_path / "own.csv", slices=("side",)).slices) == {"side"}


def test_features_come_in_the_order_of_training_and_no_other(tmp_path: Path) -> None:
    path = write_series(tmp_path / "own.csv", some_series())
    right, swapped = (
        stored.series_classifier(tmp_path / "".join(names), names) for names in (["a", "b"], ["b", "a"])
    )
    assert right.evaluate(path).metrics["ece"] != pytest.approx(swapped.evaluate(path).metrics["ece"], rel=1e-3)
    other = stored.series_classifier(tmp_path / "other", ["a", "c"])
    with pytest.raises(InvalidInput, match="columns b, a; the model reads a, c"):
        other.evaluate(path)


def test_of_the_file_it_learnt_from_only_test_rows_are_judged(tmp_path: Path) -> None:
    path = write_series(tmp_path / "own.csv", some_series())
    model = stored.series_classifier(tmp_path / "store", ["a", "b"], sha256=sha256(path))
    report = model.evaluate(path)
    test = labelled_csv.split(labelled_csv.load(path)).test
    assert sum(told["count"] for told in report.slices["label"].values()) == len(test) == 6
    assert "test rows alone" in report.details["note"]
    write_series(path, {**some_series(), "new": ("rising", "left", np.ones((3, 2)))})
    assert sum(told["count"] for told in model.evaluate(path).slices["label"].values()) == 31
    compared = model.evaluate(path, seen=("another", sha256(path)))
    assert sum(told["count"] for told in compared.slices["label"].values()) == 6, "as one it is compared with"


def test_what_the_model_does_not_know_is_named(tmp_path: Path) -> None:
    rows = some_series()
    rows["odd"] = ("hovering", "left", np.zeros((4, 2)))
    model = stored.series_classifier(tmp_path / "store")
    with pytest.raises(InvalidInput, match="no label hovering; it has falling, rising"):
        model.evaluate(write_series(tmp_path / "own.csv", rows))
    with pytest.raises(NotFound, match=r"slice 'colour' not found; available: label, side"):
        model.evaluate(write_series(tmp_path / "own.csv", some_series()), slices=("colour",))
    with pytest.raises(InvalidInput, match="mnist is nothing for small"):
        model.evaluate("mnist")
    with pytest.raises(NotFound, match=r"data set or file .* available: basic-motions"):
        model.evaluate(tmp_path / "nowhere.csv")
    with pytest.raises(InvalidInput, match="is a folder"):
        model.evaluate(tmp_path)


@pytest.mark.parametrize("task", ["sequence.embed", "sequence.transduce", "tokenization.tokenize"])
def test_a_model_without_a_truth_says_what_can_be_evaluated(tmp_path: Path, task: str) -> None:
    manifest = Manifest(name="mute", version=1, tasks=(task,))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=f"mute does {task}; what can be evaluated does one of vision.classify"):
        evaluate(manifest, tmp_path, "mnist", stored.NoFetch())


TEXTS = [
    ("the quick brown fox jumps over the lazy dog", "ham", "en"),
    ("a man is eating bread", "spam", "en"),
    ("do not worry!", "ham", "xx"),
    ("a man is eating food, a man is eating a piece of bread", "spam", "xx"),
    ("the dog", "ham", "en"),
]


def write_texts(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = [json.dumps({"text": text, "label": label, "tongue": tongue}) for text, label, tongue in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_texts_are_cut_and_judged_as_classify_cuts_them(tmp_path: Path) -> None:
    model = stored.text_classifier(tmp_path / "store")
    words = tokenizer.load(model.manifest, model.store.directory(model.manifest))
    right = []
    for text, label, _ in TEXTS:
        ids = torch.tensor([truncate(words.encode(text), Truncation(stored.CUT)).ids])
        with torch.no_grad():
            right.append(
                int(model.net(ids, torch.ones_like(ids), torch.zeros_like(ids))[0].argmax()) == (label == "spam")
            )
    rows = [*TEXTS, ("  ", "ham", "en"), ("The DOG", "ham", "en")]
    report = model.evaluate(write_texts(tmp_path / "own.jsonl", rows))
    assert report.metrics["accuracy"] == pytest.approx(np.mean(right))
    assert report.slices["tongue"]["xx"]["accuracy"] == pytest.approx(np.mean(right[2:4]))
    assert report.details["left_out"] == {
        "without text": ["line 6"],
        "copy of an earlier row": ["line 7 = line 5"],
    }
    assert report.details["confusion"][0][0] + report.details["confusion"][0][1] == 3


def test_of_texts_it_learnt_from_only_test_rows_are_judged(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "own.jsonl", [(f"{text} {n}", *more) for n in range(6) for text, *more in TEXTS])
    model = stored.text_classifier(tmp_path / "store", sha256=sha256(path))
    report = model.evaluate(path)
    test = json_lines.split(json_lines.load(path, labelled=True))[2]
    assert sum(sum(row) for row in report.details["confusion"]) == len(test) < 30
    assert "test rows alone" in report.details["note"]


def test_a_column_that_names_rows_is_no_slice_unless_asked_for(tmp_path: Path) -> None:
    rows = [(f"{text} {n}", label, f"user {n}") for n in range(30) for text, label, _ in TEXTS[:4]]
    rows = [(text, label, f"{user} {place}") for place, (text, label, user) in enumerate(rows)]
    model = stored.text_classifier(tmp_path / "store")
    report = model.evaluate(write_texts(tmp_path / "own.jsonl", rows))
    assert set(report.slices) == {"label"} and report.details["too_many_groups"] == {"tongue": 120}
    assert len(model.evaluate(tmp_path / "own.jsonl", slices=("tongue",)).slices["tongue"]) == 120


def write_table(path: Path, values: np.ndarray, start: int = 1980) -> Path:
    names = [f"v{column}" for column in range(values.shape[1])]
    lines = [",".join(["year", *names, "mood"])]
    for place, row in enumerate(values.tolist()):
        lines.append(",".join([str(start + place), *map(repr, row), "calm" if place % 3 else "wild"]))
    path.write_text("\n".join(lines) + "\n")
    return path


def foretold(model: stored.Stored, values: np.ndarray, at: int, steps: int) -> np.ndarray:
    """[steps, F] after values[:at], one origin alone, scaled by hand and each step fed back."""
    known = list((values.astype(np.float32)[:at] - np.float32(10)) / np.float32(4))
    for _ in range(steps):
        with torch.no_grad():
            window = torch.from_numpy(np.stack(known[-stored.WINDOW :]))[None]
            known.append(model.net(window)[0][0].numpy())
    return np.stack(known[-steps:]) * 4 + 10


@pytest.mark.parametrize("features", [1, 2])
def test_forecasts_are_judged_beside_naive_ones_by_period_and_column(tmp_path: Path, features: int) -> None:
    values = np.random.default_rng(2).normal(10, 4, (30, features))
    model = stored.forecaster(tmp_path / "store", features)
    report = model.evaluate(
        write_table(tmp_path / "own.csv", values), slices=("mood", "period"), horizon=3, season=2
    )
    origins = range(4, 30)
    near = np.stack([foretold(model, values, at, 1)[0] for at in origins])
    error = (near - values[4:]) ** 2
    assert report.metrics["mse"] == pytest.approx(error.mean(), rel=1e-5)
    assert report.metrics["mae"] == pytest.approx(abs(near - values[4:]).mean(), rel=1e-5)
    naive = np.mean((values[3:-1] - values[4:]) ** 2)
    assert report.baseline["mse"] == pytest.approx(naive)
    assert report.metrics["skill_over_last_value"] == pytest.approx(1 - error.mean() / naive, rel=1e-5)
    seasonal = np.mean((values[2:-2] - values[4:]) ** 2)
    assert report.metrics["skill_over_seasonal"] == pytest.approx(1 - error.mean() / seasonal, rel=1e-5)
    far = np.mean([(foretold(model, values, at, 3) - values[at : at + 3]) ** 2 for at in range(4, 28)])
    assert report.metrics["mse_3_steps"] == pytest.approx(far, rel=1e-5)
    wild = np.arange(4, 30) % 3 == 0
    assert report.slices["mood"]["wild"]["mse"] == pytest.approx(error[wild].mean(), rel=1e-5)
    assert report.slices["mood"]["wild"]["count"] == wild.sum()
    eighties = report.slices["period"]["1980 to 1989"]
    assert (eighties["mse"], eighties["count"]) == (pytest.approx(error[:6].mean(), rel=1e-5), 6)


def test_of_a_version_that_says_quantiles_it_is_told_how_often_they_hold(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(10, 4, (60, 1))
    errors = np.random.default_rng(3).normal(size=(40, 1)).astype(np.float32)
    model = stored.forecaster(tmp_path / "store", errors=errors)
    path = write_table(tmp_path / "own.csv", values)
    told = model.evaluate(path, slices=("mood",), horizon=3).details["quantiles"]
    near = np.stack([foretold(model, values, at, 1)[0, 0] for at in range(4, 60)])
    for quantile in (0.1, 0.5, 0.9):
        said = near + 4 * np.quantile(np.repeat(errors[:, 0], 10), quantile)
        assert told["one_step"][f"{quantile:g}"] == pytest.approx((values[4:, 0] <= said).mean())
    assert (told["one_step"]["origins"], told["3_steps"]["origins"], told["residuals"]) == (56, 54, 40)
    plain = stored.forecaster(tmp_path / "plain").evaluate(path, slices=("mood",), horizon=3)
    assert "quantiles" not in plain.details


def test_each_column_of_a_series_is_a_group(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(10, 4, (20, 2))
    model = stored.forecaster(tmp_path / "store", 2)
    path = tmp_path / "own.csv"
    path.write_text("t,v0,v1\n" + "".join(f"{t},{a!r},{b!r}\n" for t, (a, b) in enumerate(values.tolist())))
    report = model.evaluate(path)
    near = np.stack([foretold(model, values, at, 1)[0] for at in range(4, 20)])
    assert report.slices["column"]["v1"]["mse"] == pytest.approx(((near - values[4:]) ** 2)[:, 1].mean(), rel=1e-5)
    with pytest.raises(InvalidInput, match=r"is 2; this model reads 1 values a step"):
        stored.forecaster(tmp_path / "one", 1).evaluate(path)


def test_columns_to_forecast_come_in_the_order_of_training_and_no_other(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(10, 4, (20, 2)).tolist()
    model = stored.forecaster(tmp_path / "store", 2, columns=("a", "b"))
    files = {"a,b": rows, "b,a": [row[::-1] for row in rows], "a,c": rows}
    for names, values in files.items():
        lines = "".join(f"{t},{x!r},{y!r}\n" for t, (x, y) in enumerate(values))
        (tmp_path / f"{names}.csv").write_text(f"t,{names}\n{lines}")
    same, swapped = (model.evaluate(tmp_path / f"{names}.csv") for names in ("a,b", "b,a"))
    assert swapped.metrics == same.metrics and swapped.slices == same.slices
    with pytest.raises(InvalidInput, match="columns a, c; the model reads a, b"):
        model.evaluate(tmp_path / "a,c.csv")
    one = stored.forecaster(tmp_path / "one", columns=("sales",))
    (tmp_path / "own.csv").write_text("t,rain\n" + "".join(f"{t},{x!r}\n" for t, (x, _) in enumerate(rows)))
    assert set(one.evaluate(tmp_path / "own.csv").slices) == {"period"}


def test_of_the_series_it_learnt_from_only_the_last_years_are_judged(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(10, 4, (60, 1))
    path = write_table(tmp_path / "own.csv", values)
    plan = {"horizon": 2, "column": "v0", "season": 3}
    model = stored.forecaster(tmp_path / "store", sha256=sha256(path), plan=plan)
    report = model.evaluate(path, slices=("mood",))
    assert report.details["targets"] == 12 and report.details["season"] == 3
    assert "test rows alone" in report.details["note"] and "mse_2_steps" in report.metrics
    with pytest.raises(InvalidInput, match=r"has 60 steps; 48 steps before the first target and 20 from there on"):
        model.evaluate(path, slices=("mood",), horizon=20)


def test_a_series_that_never_moves_has_no_skill_to_tell(tmp_path: Path) -> None:
    path = write_table(tmp_path / "own.csv", np.full((12, 1), 7.0))
    report = stored.forecaster(tmp_path / "store").evaluate(path, slices=("mood",), season=2)
    assert report.baseline["mse"] == 0.0 and not [name for name in report.metrics if name.startswith("skill")]


def test_a_card_names_the_folder_that_is_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = stored.forecaster(tmp_path / "store")
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path / "pictures")
    card.save(model.store, model.manifest, ".", Report({"mse": 1.0}, {}))
    assert set(model.store.card(model.manifest)["evaluations"]) == {"pictures"}


def test_a_card_keeps_the_last_report_of_each_data_set_and_the_digest(tmp_path: Path) -> None:
    model = stored.forecaster(tmp_path / "store")
    store, digest = model.store, model.manifest.digest
    before = store.card(model.manifest)
    reports = [Report({"mse": float(n), "skill": float("-inf")}, {"mse": 2.0}) for n in range(16)]
    threads = [
        Thread(target=card.save, args=(store, model.manifest, f"/home/somebody/set{n}.csv", report))
        for n, report in enumerate(reports)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    card.save(store, model.manifest, "set3.csv", Report({"mse": 99.0}, {}))
    kept = store.card(model.manifest)
    assert {key: kept[key] for key in before} == before
    assert set(kept["evaluations"]) == {f"set{n}.csv" for n in range(16)}
    assert kept["evaluations"]["set5.csv"]["metrics"] == {"mse": 5.0, "skill": None}
    assert kept["evaluations"]["set3.csv"]["metrics"] == {"mse": 99.0}
    assert store.resolve("small").digest == digest
    store.verify(store.resolve("small"))


def test_a_card_keeps_no_table_of_a_thousand_classes() -> None:
    scores = {"cat": {"support": 3}, "dog": {"support": 0}}
    told = card.entry(Report({}, {}, {}, {"confusion": [[0]] * 1000, "classes": scores}))
    assert told["details"] == {"classes": {"cat": {"support": 3}}}
