"""Stored language models on held-out text, against a reference that asks for one token at a time."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from services.generation import figures
from services.runtime.errors import InvalidInput
from services.runtime.text import tokenizer
from tests.needs import needs
from tests.unit.training import stored
from training.data import text
from training.judges import card

CONTEXT = 6
ROWS = [
    ("the quick brown fox jumps over the lazy dog", "en"),
    ("héllo wörld, 日本語 テキスト, 🙂🧿", "xx"),
    ("it's 2024. <|endoftext|> Do not worry!", "en"),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def write(path: Path, rows: list[tuple[str, str]] = ROWS) -> Path:
    path.write_text("".join(json.dumps({"text": one, "tongue": tongue}) + "\n" for one, tongue in rows))
    return path


def reference(
    model: stored.Stored, rows: list[tuple[str, str]], context: int
) -> list[tuple[float, bool, str, bool]]:
    """(−ln p, likeliest, group, whether it is text) of every token, each asked for alone."""
    words = tokenizer.load(model.manifest, model.store.directory(model.manifest))
    end = words.token_id("<|endoftext|>")
    assert end is not None
    told, ids = [("", False)], [end]
    for one, tongue in rows:
        new = words.encode_ids(one, parse_special=False)
        ids += [*new, end]
        told += [(tongue, True)] * len(new) + [(tongue, False)]
    found = []
    for at in range(1, len(ids)):
        seen = ids[(at - 1) // context * context : at]
        with torch.no_grad():
            scores = model.net(torch.tensor([seen]))[0, -1].double().log_softmax(0)
        found.append((-float(scores[ids[at]]), int(scores.argmax()) == ids[at], *told[at]))
    return found


def test_loss_and_bits_per_byte_are_those_of_one_token_at_a_time(tmp_path: Path) -> None:
    model = stored.language_model(tmp_path / "store")
    report = model.evaluate(write(tmp_path / "own.jsonl"), context=CONTEXT)
    wanted = reference(model, ROWS, CONTEXT)
    nats = np.array([row[0] for row in wanted])
    assert report.metrics["loss"] == pytest.approx(nats.mean(), rel=1e-5)
    assert report.metrics["perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-4)
    assert report.metrics["accuracy"] == pytest.approx(np.mean([row[1] for row in wanted]))
    spoken = np.array([row[3] for row in wanted])
    size = sum(len(one.encode()) for one, _ in ROWS)
    assert report.metrics["bits_per_byte"] == pytest.approx(nats[spoken].sum() / math.log(2) / size, rel=1e-5)
    english = np.array([row[2] == "en" for row in wanted])
    told = report.slices["tongue"]["en"]
    assert told["loss"] == pytest.approx(nats[english].mean(), rel=1e-5) and (told["count"], told["tokens"]) == (
        2,
        english.sum(),
    )
    size = len(ROWS[0][0].encode()) + len(ROWS[2][0].encode())
    assert told["bits_per_byte"] == pytest.approx(nats[english & spoken].sum() / math.log(2) / size, rel=1e-5)
    assert report.details["tokens"] == len(wanted) and report.details["context"] == CONTEXT


def test_the_baseline_knows_the_frequencies_of_these_very_tokens(tmp_path: Path) -> None:
    model = stored.language_model(tmp_path / "store")
    path = tmp_path / "own.txt"
    path.write_text("the dog\nthe fox\nthe man\n")
    report = model.evaluate(path)
    words = tokenizer.load(model.manifest, model.store.directory(model.manifest))
    ids = [i for line in ("the dog", "the fox", "the man") for i in [*words.encode_ids(line), 0]]
    counts = np.bincount(ids)
    p = counts[counts > 0] / len(ids)
    assert report.baseline["loss"] == pytest.approx(-(p * np.log(p)).sum())
    assert report.baseline["accuracy"] == pytest.approx(p.max())
    assert report.details["unigram_entropy"] == report.baseline["loss"]
    assert report.slices == {} and report.details["texts"] == 3


def test_a_net_that_knows_nothing_costs_the_logarithm_of_its_vocabulary(tmp_path: Path) -> None:
    model = stored.language_model(tmp_path / "store")
    path = tmp_path / "own.txt"
    path.write_text("the lazy dog\n")
    for weights in model.net.parameters():
        torch.nn.init.zeros_(weights)
    flat = stored.Stored(
        tmp_path / "flat",
        model.net,
        model.manifest.model_dump(include={"tasks", "architecture", "config", "runner", "tokenizer"}),
        library=stored.made.byte_level(),
    )
    words = tokenizer.load(flat.manifest, flat.store.directory(flat.manifest))
    count, vocabulary = len(words.encode_ids("the lazy dog")), flat.manifest.config["vocab_size"]
    report = flat.evaluate(path)
    assert report.metrics["loss"] == pytest.approx(math.log(vocabulary), rel=1e-6)
    assert report.metrics["bits_per_byte"] == pytest.approx(count * math.log2(vocabulary) / 12, rel=1e-6)


def test_a_sample_of_the_text_is_the_same_whatever_the_tokenizer(tmp_path: Path) -> None:
    model, path = stored.language_model(tmp_path / "store"), tmp_path / "own.txt"
    path.write_text("\n\n".join(f"paragraph {n} of the quick brown fox" for n in range(50)))
    some, same = (model.evaluate(path, characters=500).details for _ in range(2))
    assert some["characters"] == 500 and some["texts"] < some["of_texts"] == 50
    assert some == same
    assert model.evaluate(path, characters=0).details["texts"] == 50


def test_of_a_text_it_learnt_from_only_test_documents_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n\n".join(f"paragraph {n} of the quick brown fox" for n in range(60)))
    seen = hashlib.sha256(path.read_bytes()).hexdigest()
    report = stored.language_model(tmp_path / "store", sha256=seen).evaluate(path)
    assert report.details["texts"] == len(text.load(path).test) == 3
    assert "test rows alone" in report.details["note"]


def test_the_context_is_that_of_training_and_never_more_than_the_positions(tmp_path: Path) -> None:
    path = write(tmp_path / "own.jsonl")
    assert stored.language_model(tmp_path / "a", plan={"context": 5}).evaluate(path).details["context"] == 5
    assert stored.language_model(tmp_path / "b").evaluate(path).details["context"] == 16
    with pytest.raises(InvalidInput, match="is 17; small reads 16 tokens at most"):
        stored.language_model(tmp_path / "c").evaluate(path, context=17)


def test_labels_are_groups_too(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": "the dog", "label": "pet"}\n{"text": "the fox"}\n')
    groups = stored.language_model(tmp_path / "store").evaluate(path).slices["label"]
    assert set(groups) == {"pet", "unknown"}


def test_a_column_of_one_group_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"text": "the dog", "topic": "pets"}\n{"text": "the fox", "topic": "pets"}\n')
    model = stored.language_model(tmp_path / "store")
    assert model.evaluate(path).slices == {}
    report = model.evaluate(path, slices=("topic",))
    assert report.slices["topic"]["pets"]["loss"] == report.metrics["loss"]


def test_precisions_are_told_beside_each_other_and_kept_where_the_service_looks(tmp_path: Path) -> None:
    needs("g++")
    model, path = stored.language_model(tmp_path / "store", width=64), write(tmp_path / "own.jsonl")
    report = model.evaluate(path, precisions=True)
    found = report.details["precisions"]
    assert found["fp32"]["perplexity"] == pytest.approx(report.metrics["perplexity"], rel=1e-4)
    assert found["fp32"]["divergence"] < 1e-9 < found["int8"]["divergence"] < found["int4"]["divergence"] / 10
    assert "no runner serves it" in found["int4"]["note"] and found["tokens"] == report.details["tokens"]
    card.save(model.store, model.manifest, str(path), report)
    assert figures.of(model.manifest, model.store) == model.store.card(model.manifest)["precisions"] == found
    assert "precisions" not in model.evaluate(path).details


def test_a_precision_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    model = stored.language_model(tmp_path / "store")
    found = model.evaluate(write(tmp_path / "own.jsonl"), precisions=True).details["precisions"]
    assert found["int8"] == {"note": "cannot be had: the kernels hold no net of the shape of small"}
    assert figures.of(model.manifest, model.store) == {} and "perplexity" in found["int4"]


def test_a_folder_is_told_to_be_one(tmp_path: Path) -> None:
    for number, model in enumerate((stored.language_model, stored.forecaster)):
        with pytest.raises(InvalidInput, match="is a folder; a file, or"):
            model(tmp_path / f"store{number}").evaluate(tmp_path)
