"""Which hostile call is number N of a seed: method, door, bytes. Knows the contracts, starts nothing."""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from google.protobuf.message import Message

from maas.common.v1.tensor_pb2 import D_TYPE_FP32, D_TYPE_UINT8, Series, Tensor, TokenIds
from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.model.v1 import model_service_pb2 as models
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_pb2
from maas.vision.v1 import vision_service_pb2 as vision
from tests.suite.fuzz.hostile_bytes import EDGES
from tests.suite.fuzz.hostile_messages import TEXTS, floats, rewritten, varied
from tests.suite.fuzz.hostile_pictures import picture, pictures

TOKENIZATION, VISION = "maas.tokenization.v1.TokenizationService", "maas.vision.v1.VisionService"
SEQUENCE, GATEWAY = "maas.sequence.v1.SequenceService", "maas.gateway.v1.GatewayService"
MODELS, OIP = "maas.model.v1.ModelService", "inference.GRPCInferenceService"
STREAMS = ("Stream", "RunSession")
# One message in, a stream out.
ANSWERED_IN_PARTS = ("FanOutStream", "RunPipelineStream")
DIGITS, FORECASTER, MOTIONS = "mnist-cnn", "fuzz-forecast", "fuzz-motions"


@dataclass(frozen=True)
class Case:
    """One call: `bodies` are the messages of a stream, or the one of a unary call."""

    door: str
    method: str
    bodies: tuple[bytes, ...]

    @property
    def streams(self) -> bool:
        return self.method.endswith(STREAMS)

    @property
    def asks_once(self) -> bool:
        return not self.streams or self.method.endswith(ANSWERED_IN_PARTS)


@dataclass(frozen=True)
class Target:
    """A method, the service that serves it, and good requests for it."""

    service: str
    method: str
    good: tuple[Message, ...]
    only_gateway: bool = False

    def door(self, draw: random.Random) -> str:
        return "gateway" if self.only_gateway or draw.random() < 0.4 else self.service


def _images(*encoded: bytes) -> list[vision_pb2.Image]:
    return [vision_pb2.Image(encoded=one) for one in encoded]


def _series(steps: int, features: int) -> Series:
    values = [0.1 * (at % 7) for at in range(steps * features)]
    return Series(packed=struct.pack(f"<{len(values)}f", *values), features=features)


def _infer(model: str, name: str, datatype: str, shape: Sequence[int], raw: bytes) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


@cache
def targets() -> tuple[Target, ...]:
    """Every method of the three services, the gateway's own and the Open Inference Protocol."""
    return (*_tokenization(), *_vision(), *_sequence(), *_others())


def _tokenization() -> list[Target]:
    text = tokenization.TokenizeRequest(
        texts=["Hello world", "ünï 日本"],
        truncation={"max_tokens": 8, "stride": 2},
        padding={"to": 3, "length": 4},
        include={"offsets": True, "tokens": True, "word_ids": True, "overflowing": True},
    )
    pair = tokenization.TokenizeRequest(model="minilm-l6-v2", pairs=[{"first": "a", "second": "b"}])
    ids = tokenization.DetokenizeRequest(sequences=[TokenIds(values=[5, 900, 17]), TokenIds(packed=b"\5\0\0\0")])
    chat = tokenization.RenderChatRequest(messages=[{"role": "user", "content": "Hi"}], tokenize=True)
    pieces = tokenization.DetokenizeStreamRequest(ids=[5, 900])
    wanted: dict[str, tuple[Message, ...]] = {
        "Tokenize": (text, pair, tokenization.TokenizeRequest(model="mistral-spm", texts=["a b"])),
        "Detokenize": (ids,),
        "CountTokens": (tokenization.CountTokensRequest(texts=["one two", ""]),),
        "RenderChat": (chat,),
        "GetTokenizer": (tokenization.GetTokenizerRequest(),),
        "TokenizeStream": (tokenization.TokenizeStreamRequest(request=text),),
        "DetokenizeStream": (pieces,),
    }
    return [Target("tokenization", f"{TOKENIZATION}/{name}", good) for name, good in wanted.items()]


def _vision() -> list[Target]:
    files = _images(*pictures()[:2])
    dots = Tensor(dtype=D_TYPE_UINT8, shape=[5, 7, 3], data=bytes(105))
    ready = Tensor(dtype=D_TYPE_FP32, shape=[1, 28, 28], data=bytes(4 * 784))
    mixed = vision.ClassifyRequest(model=DIGITS, images=[*files, {"pixels": dots}, {"pixels": ready}], top_k=3)
    large = vision.ClassifyRequest(images=files[:1])
    raw = _infer(DIGITS, "images", "FP32", [1, 1, 28, 28], bytes(4 * 784))
    return [
        Target("vision", f"{VISION}/Classify", (mixed, mixed, mixed, large)),
        Target("vision", f"{VISION}/Embed", (vision.EmbedRequest(model=DIGITS, images=files, readable=True),)),
        Target("vision", f"{VISION}/ClassifyStream", (vision.ClassifyStreamRequest(request=mixed),)),
        Target("vision", f"{OIP}/ModelInfer", (raw,)),
        Target("vision", f"{MODELS}/GetModel", (models.GetModelRequest(model=DIGITS),)),
    ]


def _sequence() -> list[Target]:
    sound = sequence.ClassifyRequest(series={"values": [_series(1024, 1)]}, step_scores=True)
    moves = sequence.ClassifyRequest(model=MOTIONS, series={"values": [_series(9, 2), _series(4, 2)]})
    texts = sequence.EmbedRequest(texts={"values": ["a man", "eats bread"]}, truncate=True)
    ids = sequence.EmbedRequest(token_ids={"sequences": [TokenIds(values=[101, 1037, 102])]})
    ahead = sequence.ForecastRequest(
        model=FORECASTER, series=_series(12, 1), horizon_steps=3, quantiles=[0.1, 0.9]
    )
    opening = sequence.RunSessionRequest(open={"session_id": "fuzz"})
    saying = sequence.RunSessionRequest(step={"step": 1, "series": _series(512, 1)})
    single = sequence.StepSessionRequest(open={}, step={"step": 1, "series": _series(512, 1)})
    frame = _infer("silero-vad", "audio", "FP32", [1, 512], bytes(2048))
    word = _infer("g2p-en", "text", "BYTES", [2], b"\2\0\0\0hi\3\0\0\0you")
    wanted: dict[str, tuple[Message, ...]] = {
        f"{SEQUENCE}/Classify": (sound, moves),
        f"{SEQUENCE}/Embed": (texts, ids),
        f"{SEQUENCE}/Transduce": (sequence.TransduceRequest(texts=["computer", "two words"]),),
        f"{SEQUENCE}/Forecast": (ahead,),
        f"{SEQUENCE}/StepSession": (single,),
        f"{SEQUENCE}/RunSession": (opening, saying),
        f"{OIP}/ModelInfer": (frame, word, _infer(FORECASTER, "window", "FP32", [1, 4, 1], bytes(16))),
        f"{OIP}/ModelMetadata": (oip.ModelMetadataRequest(name="g2p-en"),),
    }
    return [Target("sequence", method, good) for method, good in wanted.items()]


def _others() -> list[Target]:
    call = {"id": "a", "tokenize": {"texts": ["a"]}}
    seen = {"id": "b", "classify_image": {"model": DIGITS, "images": [{"encoded": pictures()[4]}]}}
    bound = {
        "target_path": "transduce.texts[0]",
        "source_path": "look.results[0].labels[0].name",
        "template": "a {}",
    }
    given = bound | {"target_path": "transduce.texts[1]", "source_path": "inputs.word", "template": ""}
    steps = [
        {"name": "look", "request": seen},
        {"name": "say", "request": {"transduce": {"texts": ["one"]}}, "bindings": [bound, given]},
    ]
    many = {"calls": [call, seen], "max_parallel": 2}
    piped = {"steps": {"values": steps}, "inputs": {"word": {"text": "two"}}}
    # Refused however it is changed: a picture is missing. Else a language model would be kept busy.
    named = {"name": "describe", "inputs": {"question": {"text": "What?"}, "max_tokens": {"integer": 1}}}
    wanted: dict[str, tuple[Message, ...]] = {
        f"{GATEWAY}/FanOut": (gateway.FanOutRequest(**many),),
        f"{GATEWAY}/FanOutStream": (gateway.FanOutStreamRequest(**many),),
        f"{GATEWAY}/RunPipeline": (gateway.RunPipelineRequest(**piped), gateway.RunPipelineRequest(**named)),
        f"{GATEWAY}/RunPipelineStream": (gateway.RunPipelineStreamRequest(**piped),),
        f"{GATEWAY}/ListPipelines": (gateway.ListPipelinesRequest(),),
        f"{GATEWAY}/GetStatus": (gateway.GetStatusRequest(),),
        f"{GATEWAY}/FlushCache": (gateway.FlushCacheRequest(model=DIGITS), gateway.FlushCacheRequest(all=True)),
        f"{MODELS}/ListModels": (models.ListModelsRequest(),),
    }
    return [Target("gateway", method, good, only_gateway=True) for method, good in wanted.items()]


def case(seed: int, number: int, patient: bool = False) -> Case:
    """The same for the same arguments, always; `patient`: now and then one that takes long."""
    draw = random.Random(f"{seed}/{number}")
    return an_explanation(draw) if patient and draw.random() < 0.005 else draw.choice(MAKERS)(draw)


def a_picture(draw: random.Random) -> Case:
    """One to three files, some good, among them damaged ones."""
    count = draw.choice((1, 1, 3))
    images = _images(*(picture(draw) if draw.random() < 0.8 else draw.choice(pictures()) for _ in range(count)))
    model = DIGITS if draw.random() < 0.9 else ""
    request: Message = vision.ClassifyRequest(model=model, images=images, top_k=1)
    method = draw.choice(("Classify", "Classify", "Embed", "ClassifyStream"))
    if method == "Embed":
        request = vision.EmbedRequest(model=model, images=images)
    if method == "ClassifyStream":
        request = vision.ClassifyStreamRequest(request=request)
    door = "gateway" if draw.random() < 0.3 else "vision"
    return Case(door, f"/{VISION}/{method}", (request.SerializeToString(),))


def a_message(draw: random.Random) -> Case:
    """A good request with fields that are not."""
    return _of(draw, lambda message: varied(draw, message).SerializeToString())


def a_wire(draw: random.Random) -> Case:
    """A good request whose bytes are not."""
    return _of(draw, lambda message: rewritten(draw, message.SerializeToString()))


def _of(draw: random.Random, spoilt: Callable[[Message], bytes]) -> Case:
    target = draw.choice(targets())
    found = Case(target.door(draw), f"/{target.method}", ())
    count = 1 if found.asks_once else draw.choice((1, 2, 5))
    given = [draw.choice(target.good) for _ in range(count)]
    whole = -1 if found.asks_once else draw.randrange(count + 1)  # one of a stream may stay good
    bodies = [one.SerializeToString() if at == whole else spoilt(one) for at, one in enumerate(given)]
    return Case(found.door, found.method, tuple(bodies))


def a_tensor(draw: random.Random) -> Case:
    """Shapes, types and contents that do or do not belong together."""
    shape = draw.choice(([1, 28, 28], [28, 28], [3, 28, 28], [5, 7, 3], [1, 1], [0, 4, 3], [1, 40_000_001, 1], []))
    if draw.random() < 0.3:
        shape = [draw.choice((0, 1, 3, 28, -1, *EDGES)) % 2**63 for _ in range(draw.choice((1, 3, 4, 9)))]
    size = 1
    for axis in shape:
        size *= axis
    content = floats(draw, min(size, 4000) + draw.choice((0, 0, 0, 1, -1)) * (size > 0))
    return draw.choice((_pixels, _frames, _inferred))(draw, shape, content)


def _pixels(draw: random.Random, shape: Sequence[int], content: bytes) -> Case:
    tensor = Tensor(
        dtype=draw.choice((D_TYPE_FP32, D_TYPE_FP32, D_TYPE_UINT8, 1, 10, 13)), shape=shape, data=content
    )
    request = vision.ClassifyRequest(model=DIGITS, images=[{"pixels": tensor}])
    return Case(draw.choice(("vision", "gateway")), f"/{VISION}/Classify", (request.SerializeToString(),))


def _frames(draw: random.Random, shape: Sequence[int], content: bytes) -> Case:
    """As a series of each kind of model."""
    series = Series(packed=content[: draw.choice((4, 512, 8192))], features=draw.choice((0, 1, 2, 3, 4096)))
    if draw.random() < 0.5:
        horizon, quantiles = draw.choice((1, 3, 40)), draw.choice(([], [0.5], [0.01, 0.99]))
        ahead = sequence.ForecastRequest(
            model=FORECASTER, series=series, horizon_steps=horizon, quantiles=quantiles
        )
        return Case(draw.choice(("sequence", "gateway")), f"/{SEQUENCE}/Forecast", (ahead.SerializeToString(),))
    request = sequence.ClassifyRequest(model=draw.choice(("", MOTIONS)), series={"values": [series]})
    return Case(draw.choice(("sequence", "gateway")), f"/{SEQUENCE}/Classify", (request.SerializeToString(),))


def _inferred(draw: random.Random, shape: Sequence[int], content: bytes) -> Case:
    model, name, service = draw.choice(
        ((DIGITS, "images", "vision"), ("silero-vad", "audio", "sequence"), (MOTIONS, "series", "sequence"))
    )
    request = _infer(model, name, draw.choice(("FP32", "FP32", "BYTES", "INT64", "")), [1, *shape], content)
    if draw.random() < 0.2:
        request.inputs[0].contents.fp32_contents.extend([0.5] * draw.choice((1, 784)))
        del request.raw_input_contents[draw.randrange(2) :]
    return Case(draw.choice((service, "gateway")), f"/{OIP}/ModelInfer", (request.SerializeToString(),))


def a_text(draw: random.Random) -> Case:
    """Strange text, for all that read text."""
    texts = [draw.choice(TEXTS) * draw.choice((1, 1, 9)) for _ in range(draw.choice((1, 2, 5)))]
    model = draw.choice(("", "gpt2-bpe", "mistral-spm", "minilm-l6-v2"))
    wanted: tuple[tuple[str, str, Message], ...] = (
        ("tokenization", f"{TOKENIZATION}/Tokenize", tokenization.TokenizeRequest(model=model, texts=texts)),
        ("tokenization", f"{TOKENIZATION}/CountTokens", tokenization.CountTokensRequest(model=model, texts=texts)),
        ("sequence", f"{SEQUENCE}/Transduce", sequence.TransduceRequest(texts=texts)),
        ("sequence", f"{SEQUENCE}/Embed", sequence.EmbedRequest(texts={"values": texts})),
    )
    service, method, request = draw.choice(wanted)
    return Case(draw.choice((service, "gateway")), f"/{method}", (request.SerializeToString(),))


def an_explanation(draw: random.Random) -> Case:
    """What asks for gradients."""
    seen = vision.ExplainRequest(model=DIGITS, image={"encoded": draw.choice(pictures())}, steps=3, overlay=True)
    heard = sequence.ExplainRequest(model=MOTIONS, series=_series(9, 2), steps=3)
    service, method, request = draw.choice((("vision", VISION, seen), ("sequence", SEQUENCE, heard)))
    message = varied(draw, request) if draw.random() < 0.7 else request
    return Case(service, f"/{method}/Explain", (message.SerializeToString(),))


MAKERS: tuple[Callable[[random.Random], Case], ...] = (
    *(a_picture, a_picture, a_picture, a_picture, a_message, a_message, a_message),
    *(a_wire, a_wire, a_tensor, a_tensor, a_text),
)
