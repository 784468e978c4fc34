"""Explain of what recipes published, by grpcurl at the gateway: the shares add up to what training's net says."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.suite.recipes import School
from tests.suite.test_published_recipes import png
from training.data import spam
from training.recipes.bert_classify import text_batch

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]

PICTURE = "vision.v1.VisionService/Explain"
SEQUENCE = "sequence.v1.SequenceService/Explain"
SPECIAL = (0, 100, 101, 102, 103)  # [PAD] [UNK] [CLS] [SEP] [MASK]


def logits(net: torch.nn.Module, *inputs: Tensor) -> np.ndarray:
    """Of one row."""
    with torch.inference_mode():
        return net(*inputs)[0][0].numpy()


def check(reply: Any, names: tuple[str, ...], judged: np.ndarray, blank: np.ndarray, shares: np.ndarray) -> None:
    """The best class is explained, and its shares sum to the rise of its logit but for what the reply admits."""
    target, rise = reply["target"], judged - blank
    assert (target["index"], target["name"]) == (judged.argmax(), names[judged.argmax()])
    assert target["score"] == pytest.approx(np.exp(judged).max() / np.exp(judged).sum(), abs=1e-5)
    assert abs(shares.sum() - rise[target["index"]]) == pytest.approx(reply["convergence_delta"], abs=1e-3)
    assert reply["convergence_delta"] < 0.1 * np.abs(shares).sum()


def heat(reply: Any) -> np.ndarray:
    given = reply["attributions"]
    return np.frombuffer(base64.b64decode(given["data"]), "<f4").reshape([int(size) for size in given["shape"]])


def painted(reply: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(reply["overlay_png"])))


def test_which_pixels_decided(school: School) -> None:
    lesson, trained = school["cnn-mnist"], school["cnn-mnist"].trained
    row = trained.split.test.pixels[:1]
    reply = lesson.ask(PICTURE, image=png(row[0]), overlay=True, steps=100)
    net, normal = trained.job.model, trained.normalisation
    judged, black = logits(net, normal.apply(row)), logits(net, normal.apply(np.zeros_like(row)))
    check(reply, trained.labels(), judged, black, heat(reply))
    assert (heat(reply)[row[0, :, :, 0] == 0] == 0).all(), "what is black is the black picture itself"
    assert (painted(reply).format, painted(reply).size) == ("PNG", (28, 28))


def test_which_region_decided(school: School) -> None:
    lesson, trained = school["cnn-mnist"], school["cnn-mnist"].trained
    image = png(trained.split.test.pixels[1])
    reply = lesson.ask(PICTURE, image=image, overlay=True, method="EXPLAIN_METHOD_GRAD_CAM", target_index=2)
    assert heat(reply).shape == (28, 28) and heat(reply).min() >= 0 and np.ptp(heat(reply)) > 0
    assert reply["target"]["name"] == "2" and reply["convergence_delta"] == 0
    assert np.asarray(painted(reply).convert("RGB")).std() > 0


def test_which_words_decided(school: School) -> None:
    mails = school.mails
    reply = school["bert-classify"].ask(SEQUENCE, text=mails.texts[0], steps=100)
    ids = mails.part.rows[0]
    blank = np.where(np.isin(ids, SPECIAL), ids, 0)
    shares = np.array(reply["attributions"])
    read, unread = (logits(mails.net, *text_batch(0, [row])) for row in (ids, blank))
    check(reply, spam.CLASSES, read, unread, shares)
    assert len(reply["tokens"]) == len(ids) and (reply["tokens"][0], reply["tokens"][-1]) == ("[CLS]", "[SEP]")
    assert (shares[np.isin(ids, SPECIAL)] == 0).all() and np.count_nonzero(shares) > 5


def test_which_steps_decided(school: School) -> None:
    lesson, trained = school["lstm-classify"], school["lstm-classify"].trained
    row = trained.split.test.rows[0]
    scores, lengths = trained.collate([row])
    series = {"features": row.shape[1], "values": row.ravel().tolist()}
    reply = lesson.ask(SEQUENCE, series=series, steps=200)
    net = trained.job.model
    judged, mean = logits(net, scores, lengths), logits(net, torch.zeros_like(scores), lengths)
    shares = np.array(reply["attributions"])
    check(reply, trained.labels(), judged, mean, shares)
    assert shares.shape == (len(row),)


def test_the_second_time_from_cache(school: School) -> None:
    lesson = school["lstm-classify"]
    row = lesson.trained.split.test.rows[1]
    series = {"features": row.shape[1], "values": row.ravel().tolist()}
    asked = {"model": lesson.name, "series": series, "steps": 5}
    first, again = (lesson.suite.grpcurl(f"maas.{SEQUENCE}", asked) for _ in range(2))
    assert first.headers["x-maas-cache"] == "miss" and again.headers["x-maas-cache"].startswith("hit")
    assert again.messages == first.messages
