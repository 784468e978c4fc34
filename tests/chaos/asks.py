"""What is asked, of every unary RPC that answers alike each time, and when two answers are the same."""

import math
import random
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from maas.admin.v1 import admin_service_pb2 as admin
from maas.common.v1.tensor_pb2 import D_TYPE_FP32, Tensor
from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.generation.v1 import generation_service_pb2 as generation
from maas.model.v1 import model_service_pb2 as models
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_service_pb2 as vision
from tests.chaos.stack import FORECASTER
from tests.service.generation import free
from tests.service.sequence.calls import FRAMES, packed

VARIANTS = 6
WORDS = ("computer", "network", "replica", "balance", "gateway", "fountain", "harvest")
# When, how long and out of which cache: not what was answered. Load makes batches, and batches round.
ASIDE = frozenset({"timing", "cache", "elapsed_ms", "stream_id", "cached_prompt_tokens"})
RELATIVE, ABSOLUTE = 1e-3, 1e-4
TOLD_OF = {"vision": ("mnist-cnn",), "sequence": ("silero-vad", "g2p-en")}
DOTS = Tensor(dtype=D_TYPE_FP32, shape=[1, 28, 28], data=struct.pack("<784f", *(n % 7 / 7 for n in range(784))))
# Few: each takes as long as many others.
EXPLAINED: Mapping[str, Sequence[Message]] = {
    "vision": [vision.ExplainRequest(model="mnist-cnn", image={"pixels": DOTS}, steps=3)],
    "sequence": [sequence.ExplainRequest(model="silero-vad", series=packed(FRAMES[:2].reshape(-1)), steps=2)],
}
FRESH = (("cache-control", "no-store"),)
CONTRACTS = (tokenization, vision, sequence, generation, gateway, models, oip, admin)


@dataclass(frozen=True)
class Ask:
    """One request of a unary method."""

    path: str
    request: Message

    async def answer(self, channel: aio.Channel, timeout: float, fresh: bool) -> Any:
        """The reply; raises what the call raises."""
        reply = GetMessageClass(method(self.path).output_type)
        call = channel.unary_unary(self.path, type(self.request).SerializeToString, reply.FromString)
        return await call(self.request, timeout=timeout, metadata=FRESH if fresh else None)


def method(path: str) -> MethodDescriptor:
    """Of `/package.Service/Method`."""
    service, _, name = path[1:].rpartition("/")
    found = (one for file in CONTRACTS for one in file.DESCRIPTOR.services_by_name.values())
    return next(one for one in found if one.full_name == service).methods_by_name[name]


def asks(areas: Sequence[str], draw: random.Random) -> list[Ask]:
    """Of all methods of these services, some requests each, and the gateway's over them."""
    made = {"tokenization": _tokens, "vision": _pictures, "sequence": _sequences, "generation": _texts}
    found = [request for area in areas for _ in range(VARIANTS) for request in made[area](draw)]
    found += [one for area in areas for one in EXPLAINED.get(area, ())]
    return [Ask(_path(request), request) for request in [*found, *_told(areas)]]


def composed(areas: Sequence[str], draw: random.Random) -> list[Ask]:
    """Calls of several calls."""
    found: list[Message] = []
    for number in range(VARIANTS):
        calls = list(_calls(areas, draw))
        found.append(gateway.FanOutRequest(calls=calls))
        steps = [{"name": f"s{number}{at}", "request": one} for at, one in enumerate(calls)]
        found.append(gateway.RunPipelineRequest(steps={"values": steps}))
    return [Ask(_path(request), request) for request in found]


def _path(request: Message) -> str:
    of = (one for file in CONTRACTS for one in file.DESCRIPTOR.services_by_name.values())
    found = next(m for service in of for m in service.methods if m.input_type is request.DESCRIPTOR)
    return f"/{found.containing_service.full_name}/{found.name}"


def _text(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=6)) + f" {draw.randrange(10**6)}"


def _tokens(draw: random.Random) -> Iterator[Message]:
    text = _text(draw)
    yield tokenization.TokenizeRequest(texts=[text], include={"offsets": True})
    yield tokenization.DetokenizeRequest(sequences=[{"values": [draw.randrange(5000) for _ in range(9)]}])
    yield tokenization.CountTokensRequest(texts=[text, "two"])
    yield tokenization.GetTokenizerRequest()
    chat = [{"role": "user", "content": text}]
    yield tokenization.RenderChatRequest(model="smollm2-135m-instruct", messages=chat, tokenize=True)


def _pictures(draw: random.Random) -> Iterator[Message]:
    floats = struct.pack("<784f", *(draw.random() for _ in range(784)))
    pixels = Tensor(dtype=D_TYPE_FP32, shape=[1, 28, 28], data=floats)
    yield vision.ClassifyRequest(images=[{"pixels": pixels}], top_k=3)
    yield vision.EmbedRequest(images=[{"pixels": pixels}], readable=True)
    infer = oip.ModelInferRequest(model_name="mnist-cnn", raw_input_contents=[floats])
    infer.inputs.add(name="images", datatype="FP32", shape=[1, 1, 28, 28])
    yield infer


def _sequences(draw: random.Random) -> Iterator[Message]:
    yield sequence.TransduceRequest(texts=draw.sample(WORDS, 2))
    frames = FRAMES[draw.randrange(60) :][:4].reshape(-1)
    yield sequence.ClassifyRequest(series={"values": [packed(frames)]})
    yield sequence.EmbedRequest(texts={"values": [_text(draw)]})
    past = [draw.random() for _ in range(12)]
    yield sequence.ForecastRequest(model=FORECASTER, series={"values": past}, horizon_steps=3)


def _told(areas: Sequence[str]) -> Iterator[Message]:
    """What the suite says of itself, the same at all times."""
    yield gateway.ListPipelinesRequest()
    yield oip.ServerLiveRequest()
    yield oip.ServerMetadataRequest()
    for name in (name for area in areas for name in TOLD_OF.get(area, ())):
        yield oip.ModelReadyRequest(name=name)
        yield oip.ModelMetadataRequest(name=name)
        yield oip.ModelConfigRequest(name=name)


def _texts(draw: random.Random) -> Iterator[Message]:
    text = _text(draw)
    yield generation.GenerateRequest(text=text, stopping=free(24))
    yield generation.GenerateRequest(text=text, sampling={"temperature": 1.0, "seed": 7}, stopping=free(12))
    yield generation.ScoreRequest(text=text)


def _calls(areas: Sequence[str], draw: random.Random) -> Iterator[Any]:
    for number in range(2):
        if "tokenization" in areas:
            yield {"id": f"tokens {number}", "tokenize": {"texts": [_text(draw)]}}
        if "sequence" in areas:
            yield {"id": f"sounds {number}", "transduce": {"texts": draw.sample(WORDS, 1)}}
        if "generation" in areas:
            yield {"id": f"text {number}", "generate": {"text": _text(draw), "stopping": free(6)}}


def same(one: Any, other: Any) -> bool:
    """Equal but for what is aside; floats within what batches of other sizes may change."""
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    if isinstance(one, Message):
        return _fields(one).keys() == _fields(other).keys() and all(
            same(value, _fields(other)[name]) for name, value in _fields(one).items()
        )
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, Iterable) and not isinstance(one, str | bytes):
        mine, theirs = list(one), list(other)
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    return bool(one == other)


def _fields(message: Message) -> dict[str, Any]:
    found = {field.name: value for field, value in message.ListFields() if field.name not in ASIDE}
    for raw in found.get("raw_output_contents", ())[:]:
        found.setdefault("numbers", []).append(struct.unpack(f"<{len(raw) // 4}f", raw))
    found.pop("raw_output_contents", None)
    return found
