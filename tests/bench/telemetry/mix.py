"""Small calls of three kinds in turn, none of them remembered: what telemetry is dearest for. Knows no server."""

from collections.abc import Iterator
from io import BytesIO
from itertools import count

import numpy as np
from PIL import Image

from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_pb2, vision_service_pb2

NO_STORE = (("cache-control", "no-store"),)
COUNT_TOKENS = "/maas.tokenization.v1.TokenizationService/CountTokens"
CLASSIFY = "/maas.vision.v1.VisionService/Classify"
TRANSDUCE = "/maas.sequence.v1.SequenceService/Transduce"
AREAS = ("tokenization", "vision", "sequence")


def requests() -> Iterator[tuple[str, bytes]]:
    """(path, request): a text's tokens, a drawn digit's class, a word's sounds, without end."""
    digit = vision_service_pb2.ClassifyRequest(images=[vision_pb2.Image(encoded=_digit())], model="mnist-cnn")
    word = sequence.TransduceRequest(texts=["telemetry"])
    for number in count():
        text = tokenization.CountTokensRequest(texts=[f"A short text, number {number}, that nobody has seen."])
        yield COUNT_TOKENS, text.SerializeToString()
        yield CLASSIFY, digit.SerializeToString()
        yield TRANSDUCE, word.SerializeToString()


def _digit() -> bytes:
    found = BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(found, "PNG")
    return found.getvalue()
