"""Bad input through the gateway: the right code, field and limit, and no harm to the next call."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import skimage
from google.rpc import error_details_pb2, status_pb2

from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1 import generation_service_pb2_grpc as generation_grpc
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.sequence.v1 import sequence_service_pb2_grpc as sequence_grpc
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokenization_grpc
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1 import vision_service_pb2_grpc as vision_grpc
from tests.suite.conftest import Suite

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
JPEG = (Path(skimage.__file__).parent / "data" / "rocket.jpg").read_bytes()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels it does not hold."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 64)
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


class Stubs:
    """The four services through one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.tokenize = tokenization_grpc.TokenizationServiceStub(channel).Tokenize
        self.detokenize = tokenization_grpc.TokenizationServiceStub(channel).Detokenize
        self.classify = vision_grpc.VisionServiceStub(channel).Classify
        self.classify_sequence = sequence_grpc.SequenceServiceStub(channel).Classify
        self.generate = generation_grpc.GenerationServiceStub(channel).Generate


@pytest.fixture(scope="module", params=["gateway", "direct"])
def stubs(suite: Suite, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Stubs]]:
    """Stubs by service: through the gateway, and to the service itself. One contract, two doors."""
    made: dict[str, Stubs] = {}

    def of(service: str) -> Stubs:
        door = "gateway" if request.param == "gateway" else service
        if door not in made:
            made[door] = Stubs(suite.channel(door))
        return made[door]

    yield of


def image(data: bytes) -> vision.ClassifyRequest:
    return vision.ClassifyRequest(images=[{"encoded": data}])


CASES: dict[str, tuple[str, str, Any, grpc.StatusCode, str]] = {
    "truncated JPEG": ("vision", "classify", image(JPEG[:20_000]), INVALID, "images[0].encoded"),
    "bomb": ("vision", "classify", image(png_header(50_000, 50_000)), INVALID, "images[0].encoded"),
    "not an image": ("vision", "classify", image(b"hello"), INVALID, "images[0].encoded"),
    "no image": ("vision", "classify", vision.ClassifyRequest(), INVALID, "images"),
    "10 MB of text": (
        "tokenization",
        "tokenize",
        tokenization.TokenizeRequest(texts=["a" * 10_000_000]),
        INVALID,
        "texts[0]",
    ),
    "empty batch": ("tokenization", "tokenize", tokenization.TokenizeRequest(), INVALID, "texts"),
    "id out of the vocabulary": (
        "tokenization",
        "detokenize",
        tokenization.DetokenizeRequest(sequences=[{"values": [5, 10**9]}]),
        INVALID,
        "sequences[0].values[1]",
    ),
    "prompt id out of the vocabulary": (
        "generation",
        "generate",
        generation.GenerateRequest(token_ids={"values": [10**9]}),
        INVALID,
        "token_ids.values[0]",
    ),
    "NaN in a series": (
        "sequence",
        "classify_sequence",
        sequence.ClassifyRequest(series={"values": [{"values": [0.0] * 511 + [float("nan")]}]}),
        INVALID,
        "series.values[0].values[511]",
    ),
    "temperature": (
        "generation",
        "generate",
        generation.GenerateRequest(text="a", sampling={"temperature": -1}),
        INVALID,
        "sampling.temperature",
    ),
    "prompt fills the context": (
        "generation",
        "generate",
        generation.GenerateRequest(token_ids={"values": [5] * 8192}),
        INVALID,
        "token_ids",
    ),
    "unknown model": (
        "tokenization",
        "tokenize",
        tokenization.TokenizeRequest(model="gpt-9", texts=["a"]),
        grpc.StatusCode.NOT_FOUND,
        "",
    ),
    "unknown version": (
        "vision",
        "classify",
        vision.ClassifyRequest(version="77", images=[{"encoded": JPEG}]),
        grpc.StatusCode.NOT_FOUND,
        "",
    ),
    "model of another task": (
        "sequence",
        "classify_sequence",
        sequence.ClassifyRequest(model="g2p-en", texts={"values": ["a"]}),
        INVALID,
        "model",
    ),
    "schema that asks for the unknown": (
        "generation",
        "generate",
        generation.GenerateRequest(text="a", constraint={"json_schema": '{"type": "strin"}'}),
        INVALID,
        "constraint.json_schema",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_names_the_field_and_harms_nobody(stubs: Callable[[str], Stubs], name: str) -> None:
    service, method, request, code, field = CASES[name]
    found = stubs(service)
    with pytest.raises(grpc.RpcError) as caught:
        getattr(found, method)(request, timeout=30)
    error = caught.value
    assert error.code() is code, error.details()
    assert "Traceback" not in error.details()
    if field:
        assert [v.field for v in bad_request(error).field_violations] == [field]
    assert stubs("tokenization").tokenize(tokenization.TokenizeRequest(texts=["fine"]), timeout=10)


def test_not_found_lists_what_exists(stubs: Callable[[str], Stubs]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs("tokenization").tokenize(tokenization.TokenizeRequest(model="gpt-9", texts=["a"]))
    assert "smollm2-135m-instruct" in caught.value.details()


@pytest.mark.parametrize("body", [b"\xff" * 40, b"\x1a\x02\xff\xfe"], ids=["random bytes", "invalid UTF-8"])
@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("tokenization", "maas.tokenization.v1.TokenizationService/Tokenize"),
        ("generation", "maas.generation.v1.GenerationService/Generate"),
        ("vision", "maas.vision.v1.VisionService/Classify"),
    ],
)
def test_bytes_that_do_not_parse(stubs: Callable[[str], Stubs], service: str, method: str, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs(service).channel.unary_unary(f"/{method}")(body, timeout=10)
    assert caught.value.code() is INVALID
    assert "parse" in caught.value.details() or "UTF-8" in caught.value.details()


def test_a_message_over_the_limit(stubs: Callable[[str], Stubs]) -> None:
    """65 MiB, one more than the gateway and vision take."""
    call = stubs("vision").channel.unary_unary("/maas.vision.v1.VisionService/Classify")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\x1a" + b"x" * (65 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(64 << 20) in caught.value.details()


def test_a_deadline_of_one_millisecond(stubs: Callable[[str], Stubs]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs("generation").generate(
            generation.GenerateRequest(text="a", stopping={"max_tokens": 100, "ignore_eos": True}), timeout=0.001
        )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stubs("generation").generate(
        generation.GenerateRequest(text="a", stopping={"max_tokens": 1}), timeout=30
    )


def bad_request(error: Any) -> error_details_pb2.BadRequest:
    raw = next(value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    for packed in status_pb2.Status.FromString(raw).details:
        found = error_details_pb2.BadRequest()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no BadRequest in {error}")
