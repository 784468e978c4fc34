"""Recipes on a user's own files: learnt, reported by group, published, prepared by serving to the same tensors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maas.common.v1.tensor_pb2 import Series, SeriesBatch
from maas.sequence.v1.sequence_service_pb2 import ForecastRequest
from services.runtime.errors import InvalidInput
from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.store.manifest import Manifest
from services.runtime.store.sources.fetcher import Fetcher
from services.runtime.store.store import ModelStore
from services.runtime.text import tokenizer
from services.sequence import convert_series
from services.sequence.models import bert, encode
from services.sequence.models.scaling import Scaling
from tests.unit.runtime.text import made
from tests.unit.training.painted import paint
from training.data import json_lines
from training.forecasting import WindowRows
from training.language import Tokens
from training.plan import plan_of
from training.publish import publish
from training.recipes.table import find
from training.run import Finished, run


class Tiny:
    """The files of a small encoder in the place of the pretrained one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        made.word_piece().save(str(folder / "tokenizer.json"))
        config = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config |= {"intermediate_size": 32, "max_position_embeddings": 16}
        (folder / "config.json").write_text(json.dumps(config))
        torch.manual_seed(1)
        save_file(dict(bert.BertModel(config).state_dict()), folder / "model.safetensors")

    def fetch(self, source: str, sha256: str) -> Path:
        return self.folder / source.rpartition("/")[2]


def _reader(manifest: Manifest) -> Any:
    """What the service's reading of series needs of a loaded model."""
    return SimpleNamespace(manifest=manifest, scaling=Scaling.read(manifest.preprocessing))


def trained(
    folder: Path, recipe: str, data: Path, fetcher: Any = None, **settings: Any
) -> tuple[Finished, Manifest]:
    """A short run on `data`, and what it published."""
    plan = plan_of(find(recipe).plan, {"data": str(data), "threads": 1, **settings})
    done = run(find(recipe), plan, fetcher or Fetcher(folder / "cache"), folder / "run")
    store = ModelStore(folder / "store")
    made_of = publish(store, recipe, done.trained, done.model, done.report, plan, lambda draft: None, done.plots)
    store.verify(made_of)
    return done, made_of


def stored(folder: Path, manifest: Manifest) -> Path:
    return ModelStore(folder / "store").directory(manifest)


def packed(values: Any) -> Series:
    return Series(packed=np.asarray(values, "<f4").tobytes(), features=np.shape(values)[1])


def tides(folder: Path) -> Path:
    """200 hours of two gauges, one hour of which was not read."""
    rows = []
    for hour in range(200):
        high = 3 + 2 * np.sin(hour * 2 * np.pi / 12)
        read = "" if hour == 190 else f"{high:.4f}"
        rows.append(
            f"2024-01-{1 + hour // 24:02}T{hour % 24:02}:00,{'ebb' if hour % 2 else 'flood'},{read},{-high:.4f}\n"
        )
    path = folder / "tides.csv"
    path.write_text("time,slice_tide,north,south\n" + "".join(rows))
    return path


def test_a_forecaster_learns_a_user_s_columns(tmp_path: Path) -> None:
    settings = {"window": 12, "horizon": 6, "season": 12, "epochs": 8}
    done, manifest = trained(tmp_path, "rnn-forecast", tides(tmp_path), **settings)
    report = done.report
    assert report.metrics["mse"] < 0.5 * report.baseline["mse"]
    assert set(report.slices) == {"period", "tide", "column"} and set(report.slices["column"]) == {
        "north",
        "south",
    }
    assert sum(group["count"] for group in report.slices["tide"].values()) == 40
    assert report.details["left_out"] == {"without a finite number": ["line 192: north is ''"]}
    assert report.details["gaps"] == ["2024-01-08T21:00 to 2024-01-08T23:00"]
    assert manifest.preprocessing["columns"] == ["north", "south"]
    assert "left out: 1 without a finite number; gaps of time: 2024-01-08T21:00 to" in manifest.provenance.notes
    drawn = json.loads((tmp_path / "run" / "report.json").read_text())["details"]["forecast"]
    assert len(drawn["truth"]) == len(drawn["predicted"]) == len(drawn["times"]) == 40 and len(drawn["ahead"]) == 6
    assert (stored(tmp_path, manifest) / "plots" / "forecast.png").is_file()


def test_serving_reads_the_windows_that_a_forecaster_was_trained_on(tmp_path: Path) -> None:
    done, manifest = trained(tmp_path, "rnn-forecast", tides(tmp_path), window=12, horizon=6, epochs=1)
    rows, values = done.trained.job.rows, done.trained.split.values
    assert isinstance(rows, WindowRows) and len(rows) > 20
    for place in (0, 7, len(rows) - 1):
        request = ForecastRequest(series=packed(values[: place + 12]), horizon_steps=1)
        served = convert_series.window(_reader(manifest), request)
        assert served.tobytes() == rows.windows[place].numpy().tobytes()


def steps(folder: Path) -> Path:
    """Twelve rising and twelve falling series of unlike lengths, and a step that is no number."""
    draw, lines = np.random.default_rng(2), ["series,step,label,slice_wrist,x,y\n"]
    for number in range(24):
        label, length = ("falls", "rises")[number % 2], int(draw.integers(5, 9))
        wrist = ("left", "right")[number % 3 == 0]
        for step in range(length):
            x = (step if label == "rises" else -step) + draw.normal() / 10
            lines.append(f"s{number},{step},{label},{wrist},{x:.4f},{draw.normal():.4f}\n")
    lines.append("s0,99,falls,right,high,1\n")
    path = folder / "steps.csv"
    path.write_text("".join(lines))
    return path


def test_a_user_s_series_are_classified_and_served_as_they_were_read(tmp_path: Path) -> None:
    done, manifest = trained(tmp_path, "lstm-classify", steps(tmp_path), epochs=8)
    assert done.report.metrics["accuracy"] == 1.0
    assert set(done.report.slices) == {"label", "wrist"}
    assert list(done.report.details["left_out"]) == ["steps without a finite number"]
    assert manifest.preprocessing["columns"] == ["x", "y"]
    assert (stored(tmp_path, manifest) / "labels.txt").read_text() == "falls\nrises\n"
    rows = done.trained.split.train.rows
    padded, lengths = done.trained.collate(rows)
    batch = SeriesBatch(values=[packed(row) for row in rows])
    served = convert_series.series_rows(_reader(manifest), batch)  # type: ignore[arg-type]
    for tensor, length, row in zip(padded, lengths, served, strict=True):
        assert tensor[:length].numpy().tobytes() == row.tobytes() and not tensor[length:].any()


def letters(folder: Path) -> Path:
    rows = []
    for number in range(20):
        for label, words in (
            ("food", "a man is eating a piece of bread"),
            ("fox", "the quick brown fox jumps over"),
        ):
            rows.append(
                {"text": f"{number} {words} " * 3, "label": label, "desk": "day" if number % 2 else "night"}
            )
    rows.append(rows[0])
    path = folder / "letters.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_user_s_texts_are_classified_and_served_as_they_were_read(tmp_path: Path) -> None:
    settings = {"epochs": 30, "max_tokens": 12, "learning_rate": 5e-3, "warmup_steps": 0}
    done, manifest = trained(tmp_path, "bert-classify", letters(tmp_path), Tiny(tmp_path / "tiny"), **settings)
    assert done.report.metrics["accuracy"] >= 0.75 > done.report.baseline["accuracy"]
    assert set(done.report.slices) == {"label", "desk"}
    assert done.report.details["left_out"]["copy of an earlier row"] == ["line 41 = line 1"]
    assert manifest.config["num_labels"] == 2 and manifest.provenance.source == "file:letters.jsonl"
    directory = stored(tmp_path, manifest)
    assert (directory / "labels.txt").read_text() == "food\nfox\n"
    test = json_lines.split(json_lines.load(tmp_path / "letters.jsonl", labelled=True))[2]
    words = tokenizer.load(manifest, directory)
    limit, cut = encode.max_tokens(manifest), encode.cuts(manifest)
    served = [encode.text_to_ids(words, row.text, limit, cut, "text") for row in test]
    own = done.trained.split.test.rows
    assert [row.tobytes() for row in served] == [row.tobytes() for row in own] and max(map(len, own)) == 12
    ids, mask, _ = encode.pad(served, manifest.config["pad_token_id"])
    padded, attended, types = done.trained.collate(own)
    assert (padded.numpy() == ids).all() and (attended.numpy() == mask).all() and not types.any()


def test_texts_alike_once_cut_are_in_one_part_only(tmp_path: Path) -> None:
    path = letters(tmp_path)
    every = json_lines.load(path, labelled=True)
    held = [row for part in json_lines.split(every)[1:] for row in part]
    with path.open("a") as file:  # texts that differ from a held-out one behind the cut alone
        file.writelines(json.dumps({"text": f"{row.text} and so on", "label": row.label}) + "\n" for row in held)
    done, _ = trained(tmp_path, "bert-classify", path, Tiny(tmp_path / "tiny"), epochs=1, max_tokens=8)
    assert done.report.details["left_out"]["equal to a held-out row once cut"]
    train, *others = (
        {row.tobytes() for row in part.rows}
        for part in (done.trained.split.train, done.trained.split.validation, done.trained.split.test)
    )
    assert not train & set.union(*others)


def test_texts_that_are_one_once_cut_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    rows = [{"text": f"{'a man is ' * 4}{n}", "label": "ab"[n % 2]} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidInput, match="a class has no training row left that differs"):
        trained(tmp_path, "bert-classify", path, Tiny(tmp_path / "tiny"), max_tokens=8)
    with pytest.raises(InvalidInput, match="rows: is for the e-mails"):
        trained(tmp_path, "bert-classify", letters(tmp_path), Tiny(tmp_path / "again"), rows=9)


def test_a_language_model_reads_json_lines_and_serving_its_tokens(tmp_path: Path) -> None:
    rows = [
        {"text": f"In the year {n} the shepherd counted {n % 7} {kind}.", "group": kind}
        for n in range(40)
        for kind in ("sheep", "goats")
    ]
    path = tmp_path / "farm.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"preset": "small", "vocab_size": 300, "context": 16, "num_return_sequences": 0, "max_length": 8}
    done, manifest = trained(tmp_path, "transformer-lm", path, **settings)
    assert set(done.report.slices["group"]) == {"sheep", "goats"}
    assert "72 training, 4 validation, 4 test documents" in manifest.provenance.notes
    words = tokenizer.load(manifest, stored(tmp_path, manifest))
    document = done.trained.corpus.train[0]
    ids = Tokens.of([document], done.trained.words).ids.tolist()
    assert ids == [*words.encode_ids(document.text), words.eos_id]


def test_the_perceptron_learns_a_folder_in_grey(tmp_path: Path) -> None:
    root = paint(tmp_path / "own", 10)
    done, manifest = trained(tmp_path, "mlp-mnist", root, epochs=3)
    assert manifest.config == {"inputs": 784, "hidden": [10, 10], "classes": 2}
    assert manifest.inputs[0].shape == (-1, 1, 28, 28)
    serving, split = ImagePreprocessing.of(manifest), done.trained.split
    served = {serving.apply(decode(path.read_bytes(), 1, "image")).tobytes() for path in root.glob("*/*")}
    every = [done.trained.normalisation.apply(part.pixels) for part in (split.train, split.validation, split.test)]
    assert {tensor.numpy().tobytes() for tensor in torch.cat(every)} == served
    with pytest.raises(InvalidInput, match="size: is for --data"):
        find("mlp-mnist").begin(plan_of(find("mlp-mnist").plan, {"size": 20}), Fetcher(tmp_path / "cache"))


def test_a_run_writes_down_its_parts_and_what_it_left_out(tmp_path: Path) -> None:
    _, manifest = trained(tmp_path, "lstm-classify", steps(tmp_path), epochs=1)
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert told["source"] == "file:steps.csv" and told["sha256"] == manifest.provenance.sha256
    assert {name: part["rows"] for name, part in told["parts"].items()} == {
        "train": 18,
        "validation": 2,
        "test": 4,
    }
    assert told["left_out"] == {"steps without a finite number": ["line 155: x is 'high'"]}
    before = told["parts"]["test"]["sha256"]
    trained(tmp_path, "lstm-classify", steps(tmp_path), epochs=1)
    assert json.loads((tmp_path / "run" / "data.json").read_text())["parts"]["test"]["sha256"] == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"window": 130}, "199 rows are too few for a window of 130"),
        ({"horizon": 50}, "20 % must hold 50"),
        ({"season": 160}, "season: is 160; 159 steps lie before the test"),
        ({"column": "west"}, "column: tides.csv has no column 'west'; it has time, slice_tide, north, south"),
        ({"column": "slice_tide"}, "no row of use"),
        ({"horizon": 60}, r"smaller window or horizon; left out: 1 without a finite number \(line"),
    ],
)
def test_what_a_forecaster_cannot_use_is_named(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        trained(tmp_path, "rnn-forecast", tides(tmp_path), **settings)
    assert not (tmp_path / "store").exists()


def test_a_column_that_tells_rows_apart_is_not_in_the_report(tmp_path: Path) -> None:
    rows = [f"s{row},{step},{'ab'[row % 2]},u{row},{row * 7 + step}\n" for row in range(520) for step in range(2)]
    path = tmp_path / "users.csv"
    path.write_text("series,step,label,slice_user,x\n" + "".join(rows))
    trained(tmp_path, "lstm-classify", path, epochs=1)
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(told["slices"]) == {"label"} and told["details"]["too_many_groups"] == {"user": 104}
