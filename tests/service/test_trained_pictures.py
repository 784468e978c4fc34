"""What a recipe publishes answers as its own evaluation did, through a real vision server."""

from pathlib import Path

import numpy as np
from PIL import Image

from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from services.vision.settings import VisionSettings
from tests.harness import running
from tests.unit.training.painted import paint
from tests.unit.training.test_picture_recipes import NoFetch
from tests.unit.vision.pictures import encode
from training.classification import PictureTraining, predict
from training.plan import plan_of
from training.publish import publish
from training.recipes.lenet_rgb import LeNetRgb
from training.run import run


async def test_served_scores_are_the_scores_of_training(tmp_path: Path) -> None:
    plan = plan_of(LeNetRgb.plan, {"data": str(paint(tmp_path / "own")), "epochs": "1", "threads": "1"})
    done = run(LeNetRgb(), plan, NoFetch(), tmp_path / "home")
    store = ModelStore(tmp_path / "store")
    publish(store, "painted", done.trained, done.model, done.report, plan, lambda draft: None)
    assert isinstance(done.trained, PictureTraining)
    test = done.trained.split.test
    wanted = predict(done.model, done.trained.normalisation.apply(test.pixels))
    images = [vision_pb2.Image(encoded=encode(Image.fromarray(row), "PNG")) for row in test.pixels]
    settings = VisionSettings(
        port=0, metrics_port=0, store=store.root, lame_duck_s=0, drain_s=5, threads=1,
        image_classify_model="painted", image_embed_model="painted",
    )  # fmt: skip
    async with running(settings, build) as (channel, _):
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        reply = await stub.Classify(vision_service_pb2.ClassifyRequest(images=images, top_k=2))
    for result, scores in zip(reply.results, wanted, strict=True):
        got = {label.name: label.score for label in result.labels}
        np.testing.assert_allclose([got["blue"], got["red"]], scores, atol=1e-5)
