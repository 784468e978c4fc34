"""From data to a served answer: a recipe published while the suite runs answers held-out rows as training does.

Training's side is computed here by training's own preparation of the raw rows; the services get the rows raw.
"""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maas.model.v1 import model_pb2
from tests.needs import needs
from tests.suite.recipes import KINDS, School
from training import classification, sequences
from training.data import spam
from training.forecasting import roll_out
from training.language import judge
from training.recipes.bert_classify import text_batch

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]

PICTURES = "vision.v1.VisionService/Classify"
SEQUENCES = "sequence.v1.SequenceService/Classify"
FORECAST = "sequence.v1.SequenceService/Forecast"
GENERATE = "generation.v1.GenerationService/Generate"
SCORE = "generation.v1.GenerationService/Score"
ROWS, NEW_TOKENS, YEARS = 8, 24, 11


@pytest.fixture(scope="module", autouse=True)
def _taught(school: School) -> None:
    school.teach(KINDS)


def png(pixels: np.ndarray) -> dict[str, str]:
    """uint8 [H, W, C], as it came out of the data set, in a file."""
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return {"encoded": base64.b64encode(file.getvalue()).decode()}


def probabilities(reply: Any, names: tuple[str, ...]) -> np.ndarray:
    """[rows, classes]; every label must bear the name that training gave its class."""
    found = np.zeros((len(reply["results"]), len(names)))
    for row, result in zip(found, reply["results"], strict=True):
        for label in result["labels"]:
            assert label["name"] == names[label["index"]]
            row[label["index"]] = label["score"]
    return found


def test_the_watch_told_every_version_and_nobody_was_started_again(school: School) -> None:
    assert all(pids == school.pids[0] for pids in school.pids)
    for recipe in (recipe for row in KINDS for recipe in row):
        lesson = school[recipe]
        told = school.told[lesson.name]
        for area in {model.service for model in told}:
            states = [model.state for model in told if model.service == area]
            assert states[-2:] == [model_pb2.MODEL_STATE_LOADING, model_pb2.MODEL_STATE_SERVING]
        for model in told:
            own = lesson.manifest.model_copy(update={"precision": model.precision}).digest
            assert (model.version, model.digest) == ("1", lesson.digest if model.precision == "int8" else own)


SLOW = [pytest.param(recipe, marks=pytest.mark.slow) for recipe in ("mlp-mnist", "lenet-rgb")]


@pytest.mark.parametrize("recipe", ["cnn-mnist", *SLOW])
def test_pictures(school: School, recipe: str) -> None:
    lesson, trained = school[recipe], school[recipe].trained
    every = len(trained.split.test) // ROWS
    rows = trained.split.test.pixels[::every]
    wanted = classification.predict(trained.job.model, trained.normalisation.apply(rows))
    reply = lesson.ask(PICTURES, images=[png(row) for row in rows], top_k=len(trained.labels()))
    found = probabilities(reply, trained.labels())
    np.testing.assert_allclose(found, wanted, atol=lesson.tolerance)
    assert (found.argmax(1) == wanted.argmax(1)).all() and len(set(wanted.argmax(1))) > 1


def test_motions(school: School) -> None:
    lesson, trained = school["lstm-classify"], school["lstm-classify"].trained
    rows = trained.split.test.rows[::5]
    wanted = sequences.predict(trained.job.model, rows, trained.collate)
    series = [{"features": row.shape[1], "values": row.ravel().tolist()} for row in rows]
    found = probabilities(lesson.ask(SEQUENCES, series={"values": series}), trained.labels())
    np.testing.assert_allclose(found, wanted, atol=lesson.tolerance)
    assert len(set(wanted.argmax(1))) > 1


def test_mails(school: School) -> None:
    """Texts longer than what is read of them are cut alike."""
    lesson, mails = school["bert-classify"], school.mails
    assert max(map(len, mails.part.rows)) == lesson.manifest.limits["max_tokens"]
    wanted = sequences.predict(mails.net, mails.part.rows, lambda rows: text_batch(0, rows))
    found = probabilities(lesson.ask(SEQUENCES, texts={"values": mails.texts}), spam.CLASSES)
    np.testing.assert_allclose(found, wanted, atol=lesson.tolerance)


def test_sunspots(school: School) -> None:
    """Years of the test, each forecast from the years before it, in counts."""
    lesson, trained = school["rnn-forecast"], school["rnn-forecast"].trained
    values, first = trained.split.values, trained.split.test_from
    for year in (first, first + 20, len(values) - YEARS):
        window = torch.from_numpy(trained.scaling.apply(values[year - trained.window : year]))[None]
        wanted = trained.scaling.undo(roll_out(trained.job.model, window, YEARS))[0, :, 0]
        known = {"values": values[:year, 0].tolist()}
        found = lesson.ask(FORECAST, series=known, horizon_steps=YEARS)["values"]
        np.testing.assert_allclose(found, wanted, atol=lesson.tolerance * np.abs(wanted).max())
        assert np.ptp(found) > 1


@pytest.mark.parametrize("recipe", ["transformer-lm", "gpt2-finetune"])
def test_words(school: School, recipe: str) -> None:
    """Greedy tokens after the beginning of held-out documents; for LoRA by the net with its adapters on. Each is
    training's likeliest, or as likely but for twice the tolerance: two numbers may be off."""
    lesson, trained = school[recipe], school[recipe].trained
    for document in trained.corpus.test[:3]:
        text = document.text[:60]
        ids = trained.words.encode_ids(text, parse_special=False)
        reply = lesson.ask(GENERATE, text=text, stopping={"max_tokens": NEW_TOKENS, "ignore_eos": True})
        found = reply["completions"][0]["token_ids"]
        assert len(found) == NEW_TOKENS and reply["completions"][0]["text"] == trained.words.decode(found)
        with torch.no_grad():
            logs = trained.job.model(torch.tensor([ids + found[:-1]]))[0, len(ids) - 1 :].log_softmax(-1)
        chosen = logs.gather(1, torch.tensor(found)[:, None])[:, 0]
        assert (logs.amax(1) - chosen).max() <= 2 * lesson.tolerance


@pytest.mark.parametrize("recipe", ["transformer-lm", "gpt2-finetune"])
def test_the_chance_of_held_out_words(school: School, recipe: str) -> None:
    lesson, trained = school[recipe], school[recipe].trained
    ids = trained.test.ids[:64]
    wanted, _ = judge(trained.job.model, ids, len(ids) - 1)
    reply = lesson.ask(SCORE, token_ids={"values": ids.tolist()})
    found = np.array([token["chosen"]["logprob"] for token in reply["tokens"]])
    np.testing.assert_allclose(found, -wanted, atol=lesson.worst_of(ids.tolist()))
    assert np.abs(found + wanted).mean() < lesson.tolerance


@pytest.mark.parametrize("recipe", ["transformer-lm", "gpt2-finetune"])
def test_words_are_served_in_the_default_precision(school: School, recipe: str) -> None:
    needs("g++")
    lesson = school[recipe]
    assert lesson.precision == "int8" and lesson.digest != lesson.manifest.digest


def test_fine_tuning_changed_what_is_served(school: School) -> None:
    base, tuned = (school[recipe].trained for recipe in ("transformer-lm", "gpt2-finetune"))
    ids = base.test.ids[:64]
    assert np.abs(judge(base.job.model, ids, 63)[0] - judge(tuned.job.model, ids, 63)[0]).max() > 1e-3
