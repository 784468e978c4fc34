"""The calls that are measured, one a service: short texts, a photograph's size, a few tokens. Sends none."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from maas.common.v1.tensor_pb2 import Texts
from maas.generation.v1 import generation_pb2
from maas.generation.v1 import generation_service_pb2 as generation
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1.vision_pb2 import Image

TOKENS = 32
SIDES = (512, 384)
WORDS = "It was the best of times, it was the worst of times. "


@dataclass(frozen=True, slots=True)
class Ask:
    """`body` makes request number n, unlike others where a service remembers; `shared`: see `curves.Method`."""

    service: str
    path: str
    body: Callable[[int], bytes]
    reply: Any
    shared: bool = False


def _tokenize(number: int) -> bytes:
    return tokenization.TokenizeRequest(texts=[f"{WORDS}{number}"]).SerializeToString()


def _embed(number: int) -> bytes:
    return sequence.EmbedRequest(texts=Texts(values=[f"{WORDS * 4}{number}"])).SerializeToString()


def _classify(_: int) -> bytes:
    return vision.ClassifyRequest(images=[Image(encoded=_picture())], top_k=5).SerializeToString()


def _generate(number: int) -> bytes:
    stopping = generation_pb2.Stopping(max_tokens=TOKENS, ignore_eos=True)
    return generation.GenerateRequest(text=f"{number} {WORDS}", stopping=stopping).SerializeToString()


@cache
def _picture() -> bytes:
    """A JPEG with something to decode everywhere."""
    from PIL import Image as Pictures

    file = io.BytesIO()
    Pictures.effect_noise(SIDES, 64).convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


ASKS: Mapping[str, Ask] = {
    "tokenize": Ask(
        "tokenization",
        "/maas.tokenization.v1.TokenizationService/Tokenize",
        _tokenize,
        tokenization.TokenizeResponse,
    ),
    "classify": Ask("vision", "/maas.vision.v1.VisionService/Classify", _classify, vision.ClassifyResponse),
    "embed": Ask("sequence", "/maas.sequence.v1.SequenceService/Embed", _embed, sequence.EmbedResponse),
    "generate": Ask(
        "generation",
        "/maas.generation.v1.GenerationService/Generate",
        _generate,
        generation.GenerateResponse,
        shared=True,
    ),
}
