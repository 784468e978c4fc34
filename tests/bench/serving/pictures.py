"""A photograph in the client's hand to labels in its hand; and the same picture as a ready tensor.

Our service gets the JPEG. Before another server the client decodes, resizes and normalises by the very same code,
on as many threads as there are cores, sends the tensor, and makes labels of the scores that come back.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.pictures.decode import decode
from services.runtime.pictures.preprocess import ImagePreprocessing
from services.runtime.tensors import from_numpy
from tests.bench.load import interleave
from tests.bench.peers.serving.spec import Model
from tests.bench.servers import Server, suite
from tests.bench.serving import models, oip
from tests.bench.serving.ceilings import ceilings
from tests.bench.serving.report import OURS, Result
from tests.bench.serving.stand import Bench, Stand, stand
from tests.bench.serving.ways import Way, always, points

JPEG = Path(skimage.__file__).parent / "data" / "rocket.jpg"
CLASS = 657
TOP = 5
SIZES = (1, 8, 32)
CLASSIFY = "/maas.vision.v1.VisionService/Classify"
PRECISIONS = ("fp32", "int8")
FROM_JPEG, FROM_TENSOR = "JPEG to labels", "ready tensor"


class Client:
    """What somebody who asks such a server has to do."""

    def __init__(self, store: Path) -> None:
        manifest, folder = models.directory(store, models.PICTURE)
        self._preprocessing = ImagePreprocessing.of(manifest)
        self._labels = (folder / str(manifest.labels)).read_text("utf-8").splitlines()

    def tensor(self, encoded: bytes) -> oip.Array:
        """Float32 [1, 3, H, W]."""
        return self._preprocessing.apply(self._decoded(encoded))[np.newaxis]

    def _decoded(self, encoded: bytes) -> Image.Image:
        return decode(encoded, self._preprocessing.channels, "image", self._preprocessing.least_side)

    def best(self, reply: bytes) -> int:
        """The TOP labels by name and probability; returns the index of the very best."""
        scores = oip.output(reply)[0].astype(np.float64)
        shares = np.exp(scores - scores.max())
        best = np.argpartition(-shares, TOP)[:TOP]
        best = best[np.argsort(-shares[best])]
        named = [(int(one), self._labels[one], float(shares[one] / shares.sum())) for one in best]
        return named[0][0]


async def run(bench: Bench) -> list[Result]:
    """Two results for each precision whose file is in the store."""
    results = []
    for precision in PRECISIONS:
        if model := models.picture(bench.options.store, precision):
            results += await _measured(bench, model, precision)
    return results


async def _measured(bench: Bench, model: Model, precision: str) -> list[Result]:
    options, client = bench.options, Client(bench.options.store)
    program = suite(options.store, extra={**options.environment, "MAAS_VISION_PRECISION": precision})["vision"]
    async with stand(bench, [program], [model]) as up, ceilings(model, bench) as alone:
        forms = {FROM_JPEG: from_jpeg(up, model, client), FROM_TENSOR: from_tensor(up, model, client)}
        timed = {}
        for form, ways in forms.items():
            timed |= points(form, SIZES, ways, options.seconds)
        for size in SIZES:
            timed |= {(f"{FROM_TENSOR}, {size}", name): partial(one, size) for name, one in alone.items()}
        found = await interleave(timed, options.repeat, options.tell)
    return [Result(f"pictures {precision}: {form}", "images/s", found, form) for form in forms]


def from_jpeg(up: Stand, model: Model, client: Client) -> Mapping[str, Way]:
    """Read answer by answer: labels are what was asked for."""
    encoded = JPEG.read_bytes()
    ways = {OURS: ours(up.servers["vision"], vision_pb2.Image(encoded=encoded), reads=True)}
    for name, server, served in up.ways(model):

        def body(served: str = served) -> bytes:
            return oip.request(served, {model.inputs[0].name: client.tensor(encoded)})

        make = partial(asyncio.get_running_loop().run_in_executor, up.pool, body)
        ways[name] = Way((server,), oip.INFER, make, client.best, CLASS, reads=True, held=True)
    return ways


def from_tensor(up: Stand, model: Model, client: Client) -> Mapping[str, Way]:
    """Bytes ready, answers unread but for the first and the last."""
    tensor = client.tensor(JPEG.read_bytes())
    ways = {OURS: ours_tensor(up.servers["vision"], tensor)}
    for name, server, served in up.ways(model):
        body = oip.request(served, {model.inputs[0].name: tensor})
        ways[name] = Way((server,), oip.INFER, always(body), client.best, CLASS, held=True)
    return ways


def ours(server: Server, image: vision_pb2.Image, *others: Server, reads: bool = False, outcome: str = "") -> Way:
    """Classify of one picture; `others` are behind `server`."""
    request = vision_service_pb2.ClassifyRequest(model=models.PICTURE, images=[image], top_k=TOP)
    body = always(request.SerializeToString())
    return Way((server, *others), CLASSIFY, body, _best, CLASS, reads=reads, outcome=outcome)


def _best(reply: bytes) -> int:
    labels = vision_service_pb2.ClassifyResponse.FromString(reply).results[0].labels
    named = [(one.index, one.name, one.score) for one in labels]
    return named[0][0]


def ours_tensor(server: Server, tensor: oip.Array) -> Way:
    """Float32 [1, 3, H, W], answers unread."""
    return ours(server, vision_pb2.Image(pixels=from_numpy(tensor[0])))
