"""The batch law through a gateway that shares batches out: two replicas answer as one."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from grpc import aio

from cli.ports import any_free
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from maas.gateway.v1.gateway_service_pb2 import GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.server import Build
from services.runtime.settings import ServerSettings
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build as build_sequence
from services.tokenization.__main__ import build as build_tokenization
from services.tokenization.settings import TokenizationSettings
from services.vision.__main__ import build as build_vision
from tests.harness import running
from tests.service import test_tokenization
from tests.service.law import Court, Kind
from tests.service.test_batch_law import (
    BROKEN,
    FLOOR,
    LENGTHS,
    NET_TOLERANCE,
    rows,
    scores,
    seen,
    sentences,
    sequence_settings,
    series,
    unseen,
)
from tests.service.vision import calls
from tests.unit.runtime.text import made
from tests.unit.training import stored

AREAS = ("tokenization", "vision", "sequence", "generation")
CALLS, AT_ONCE, MOST = 40, 6, 3
FRESH = (("cache-control", "no-store"),)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(tmp_path)


@asynccontextmanager
async def shared_out(
    area: str, settings: ServerSettings, build: Build[Any], split: int
) -> AsyncIterator[aio.Channel]:
    """A gateway before two replicas of one service, which cuts batches of more than `split`."""
    async with AsyncExitStack() as stack:
        ports = [any_free("127.0.0.1") for _ in range(2)]
        for port in ports:
            await stack.enter_async_context(running(settings.model_copy(update={"port": port}), build))
        addresses = {f"{name}_address": "" for name in AREAS}
        addresses[f"{area}_address"] = ",".join(f"127.0.0.1:{port}" for port in ports)
        chosen = GatewaySettings(split_items=split, start_wait_s=5, **FLOOR, **addresses)
        channel, _ = await stack.enter_async_context(running(chosen, build_gateway))
        yield channel


async def obeyed(channel: aio.Channel, seed: int, *kinds: Kind) -> None:
    court = Court(kinds, random.Random(seed))
    await court.hear(CALLS, AT_ONCE)
    told = str(court.endings)
    assert sum(court.endings.values()) == CALLS, told
    assert court.count("wait", "OK") > CALLS / 4 and court.count("wait", "INVALID_ARGUMENT"), told
    status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
    sent = [one.calls for one in status.backends]
    lone = sum(len(kind.good) + len(kind.bad) for kind in kinds)
    # Many were cut: more calls went out than came in, to both.
    assert sum(sent) > CALLS + lone and min(sent) > CALLS / 2, sent


async def test_pictures(store: ModelStore) -> None:
    calls.publish(store, "digits", seed=1)
    async with shared_out("vision", calls.settings(store), build_vision, MOST) as channel:
        stub = VisionServiceStub(channel)

        def classify(items: Sequence[Any], timeout: float) -> Any:
            return stub.Classify(vision.ClassifyRequest(images=items, top_k=10), timeout=timeout, metadata=FRESH)

        def embed(items: Sequence[Any], timeout: float) -> Any:
            return stub.Embed(vision.EmbedRequest(images=items), timeout=timeout, metadata=FRESH)

        await obeyed(
            channel,
            1,
            Kind("Classify", classify, scores, seen(), unseen(), NET_TOLERANCE),
            Kind("Embed", embed, rows, seen(), unseen(), 1e-4),
        )


async def test_series_and_texts(store: ModelStore) -> None:
    stored.series_classifier(store.root, name="motions")
    stored.text_classifier(store.root, name="mails")
    async with shared_out("sequence", sequence_settings(store), build_sequence, MOST) as channel:
        stub = SequenceServiceStub(channel)

        def of(model: str, field: str, key: str) -> Callable[[Sequence[Any], float], Any]:
            def ask(items: Sequence[Any], timeout: float) -> Any:
                request = sequence.ClassifyRequest(model=model, **{field: {key: items}})
                return stub.Classify(request, timeout=timeout, metadata=FRESH)

            return ask

        lengths = [series(steps, steps, 2) for steps in LENGTHS]
        ids = [{"values": [n, n + 1, 90 - n][: 1 + n % 3]} for n in range(8)]
        await obeyed(
            channel,
            2,
            Kind("series", of("motions", "series", "values"), scores, lengths, [BROKEN], NET_TOLERANCE),
            Kind("texts", of("mails", "texts", "values"), scores, sentences(9, 12), (), NET_TOLERANCE),
            Kind("ids", of("mails", "token_ids", "sequences"), scores, ids, [{"values": [3, 120]}], NET_TOLERANCE),
        )


def chatty(store: ModelStore) -> TokenizationSettings:
    data, spec = made.byte_level().to_str().encode(), test_tokenization.NAMED
    test_tokenization.publish(store, "chatty", "tokenizer.json", data, **spec)
    return TokenizationSettings(store=store.root, tokenize_model="chatty", **FLOOR)


PADDINGS = [None, {}, {"to": 1}, {"to": 2, "length": 12}, {"to": 3, "length": 8}]


async def test_texts_however_they_are_padded(store: ModelStore) -> None:
    """The whole reply, but for its timing, is the one that a single replica gives."""
    texts = ["", "héllo 日本語 🙂\n\n  x", "x" * 300, "<|im_start|>", *sentences(13, 30)]
    settings = chatty(store)

    async def told(split: int) -> list[bytes]:
        async with shared_out("tokenization", settings, build_tokenization, split) as channel:
            stub = TokenizationServiceStub(channel)
            replies: list[Any] = []
            for padding in PADDINGS:
                columns = test_tokenization.ALL_COLUMNS if padding else None
                request = tokenization.TokenizeRequest(texts=texts, padding=padding, include=columns)
                replies.append(await stub.Tokenize(request))
            pairs = [{"first": one, "second": one[::-1]} for one in texts]
            cut = {"max_tokens": 8, "stride": 2}
            replies.append(await stub.Tokenize(tokenization.TokenizeRequest(pairs=pairs, truncation=cut)))
            replies.append(await stub.CountTokens(tokenization.CountTokensRequest(texts=texts)))
            status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
            assert sum(one.calls for one in status.backends) == (11 if split else 7)
        for reply in replies:
            reply.ClearField("timing")
        return [reply.SerializeToString(deterministic=True) for reply in replies]

    assert await told(split=MOST) == await told(split=0)
