"""Random batches of good and bad items of many callers, some of whom leave: each answer is the item's lone one."""

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grpc import aio
from PIL import Image

from maas.common.v1.tensor_pb2 import Series, TokenIds
from maas.sequence.v1 import sequence_service_pb2 as sequence
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1.vision_pb2 import Image as Picture
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime import tensors
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build as build_sequence
from services.sequence.settings import SequenceSettings
from services.tokenization.__main__ import build as build_tokenization
from services.tokenization.settings import TokenizationSettings
from services.vision.__main__ import build as build_vision
from tests.harness import heard, running
from tests.service import test_tokenization
from tests.service.law import Court, Kind
from tests.service.vision import calls
from tests.unit.runtime.text import made
from tests.unit.training import stored
from tests.unit.vision.pictures import encode

CALLS, AT_ONCE = 100, 12
FLOOR = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5}
NET_TOLERANCE = 1e-5  # of the torch runner in fp32
WORDS = ["a", "man", "is", "eating", "food", "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(tmp_path)


async def obeyed(seed: int, *kinds: Kind) -> None:
    court = Court(kinds, random.Random(seed))
    await court.hear(CALLS, AT_ONCE)
    told = str(court.endings)
    assert sum(court.endings.values()) == CALLS, told
    assert court.count("wait", "OK") > CALLS / 4 and court.count("wait", "INVALID_ARGUMENT"), told
    assert court.count("cancel", "CANCELLED") and court.count("hurry", "DEADLINE_EXCEEDED"), told


# --- Vision ----------------------------------------------------------------------------------------------------


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@cache
def seen() -> list[Picture]:
    files = [
        encode(Image.fromarray(noise(number, 20 + number, 30, 3)), form)
        for number, form in enumerate(("JPEG", "PNG", "WEBP", "GIF", "BMP"))
    ]
    arrays = [noise(7, 9, 11, 3), calls.normalised(3), calls.normalised(4)]
    return [*(Picture(encoded=one) for one in files), *map(calls.tensor, arrays)]


@cache
def unseen() -> list[Picture]:
    cut = encode(Image.fromarray(noise(1, 40, 40, 3)), "JPEG")[:300]
    overflow = np.full((1, 28, 28), 3e38, np.float32)
    bad = [np.full((1, 28, 28), np.nan, np.float32), np.zeros((1, 5, 5), np.float32), overflow]
    return [Picture(encoded=cut), Picture(encoded=b"none"), *map(calls.tensor, bad)]


def scores(reply: Any) -> list[np.ndarray]:
    """Of each result, by class."""
    found = [np.zeros(len(result.labels)) for result in reply.results]
    for row, result in zip(found, reply.results, strict=True):
        for label in result.labels:
            row[label.index] = label.score
    return found


def rows(reply: Any) -> Sequence[np.ndarray]:
    return list(tensors.to_numpy(reply.embeddings, ""))


async def test_pictures(store: ModelStore) -> None:
    calls.publish(store, "digits", seed=1)
    async with running(calls.settings(store, batch_images=8), build_vision) as (channel, _):
        stub = VisionServiceStub(channel)

        def classify(items: Sequence[Picture], timeout: float) -> Any:
            return stub.Classify(vision.ClassifyRequest(images=items, top_k=10), timeout=timeout)

        def embed(items: Sequence[Picture], timeout: float) -> Any:
            return stub.Embed(vision.EmbedRequest(images=items), timeout=timeout)

        await obeyed(
            1,
            Kind("Classify", classify, scores, seen(), unseen(), NET_TOLERANCE),
            Kind("Embed", embed, rows, seen(), unseen(), 1e-4),
        )


async def test_a_stream_of_pictures(store: ModelStore) -> None:
    """Request by request; what came before the first bad one is answered, and nothing after it."""
    calls.publish(store, "digits", seed=1)
    async with running(calls.settings(store), build_vision) as (channel, _):
        stub = VisionServiceStub(channel)
        lone = [scores(await stub.Classify(vision.ClassifyRequest(images=[one], top_k=10)))[0] for one in seen()]

        async def stream(seed: int) -> None:
            draw = random.Random(seed)
            chosen = [draw.randrange(len(lone)) for _ in range(20)]
            ruined = draw.choice((None, *range(20)))
            requests = [vision.ClassifyRequest(images=[seen()[index]], top_k=10) for index in chosen]
            if ruined is not None:
                requests[ruined].images[0].CopyFrom(draw.choice(unseen()))
            call = stub.ClassifyStream(iter([vision.ClassifyStreamRequest(request=one) for one in requests]))
            found = []
            try:
                async for message in heard(call):
                    found += scores(message.response)
            except aio.AioRpcError as error:
                assert "images[0]" in (error.details() or "")
            assert len(found) == (20 if ruined is None else ruined)
            for index, row in zip(chosen, found, strict=False):
                np.testing.assert_allclose(row, lone[index], atol=NET_TOLERANCE)

        await asyncio.gather(*(stream(seed) for seed in range(8)))


# --- Sequence --------------------------------------------------------------------------------------------------


def series(seed: int, steps: int, features: int) -> Series:
    values = np.random.default_rng(seed).normal(10, 4, (steps, features))
    return Series(packed=values.astype("<f4").tobytes(), features=features)


BROKEN = Series(values=[1.0, float("nan"), 3.0, 4.0], features=2)
LENGTHS = (1, 2, 3, 5, 8, 17, 31, 60)


def sentences(count: int, most: int) -> list[str]:
    draw = random.Random(count)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, most))) for _ in range(count)]


def sequence_settings(store: ModelStore) -> SequenceSettings:
    return SequenceSettings(store=store.root, batch_tokens=64, **FLOOR)


async def test_series_and_texts(store: ModelStore) -> None:
    stored.series_classifier(store.root, name="motions")
    stored.text_classifier(store.root, name="mails")
    async with running(SequenceSettings(store=store.root, batch_tokens=64, **FLOOR), build_sequence) as (
        channel,
        _,
    ):
        stub = SequenceServiceStub(channel)

        def of(model: str, field: str, key: str) -> Callable[[Sequence[Any], float], Any]:
            def ask(items: Sequence[Any], timeout: float) -> Any:
                return stub.Classify(
                    sequence.ClassifyRequest(model=model, **{field: {key: items}}), timeout=timeout
                )

            return ask

        lengths = [series(steps, steps, 2) for steps in LENGTHS]
        ids = [TokenIds(values=np.random.default_rng(n).integers(0, 120, 1 + n % 6).tolist()) for n in range(8)]
        broken = [BROKEN, series(1, 3, 1)]
        foreign = TokenIds(values=[2, 3], tokenizer_digest="sha256:other")
        await obeyed(
            2,
            Kind("series", of("motions", "series", "values"), scores, lengths, broken, NET_TOLERANCE),
            Kind("texts", of("mails", "texts", "values"), scores, sentences(9, 12), (), NET_TOLERANCE),
            Kind(
                "ids",
                of("mails", "token_ids", "sequences"),
                scores,
                ids,
                [TokenIds(values=[3, 120]), TokenIds(), foreign],
                NET_TOLERANCE,
            ),
        )


async def test_forecasts(store: ModelStore) -> None:
    """A request holds one series: those that travel together are of many callers."""
    errors = np.random.default_rng(0).normal(size=(12, 1)).astype(np.float32)
    stored.forecaster(store.root, name="ahead", errors=errors)
    async with running(SequenceSettings(store=store.root, batch_tokens=64, **FLOOR), build_sequence) as (
        channel,
        _,
    ):
        stub = SequenceServiceStub(channel)

        def ask(items: Sequence[Any], timeout: float) -> Any:
            one, steps, quantiles = items[0]
            request = sequence.ForecastRequest(model="ahead", series=one, horizon_steps=steps, quantiles=quantiles)
            return stub.Forecast(request, timeout=timeout)

        def paths(reply: sequence.ForecastResponse) -> list[np.ndarray]:
            return [np.array([*reply.values, *(value for path in reply.quantiles for value in path.values)])]

        plain = [(series(steps, steps, 1), steps, []) for steps in LENGTHS if steps > 3]
        wide = [(series(steps, 9, 1), steps, [0.1, 0.5, 0.9]) for steps in (1, 4)]
        bad = [(series(1, 2, 1), 3, []), (series(1, 9, 1), 3, [1.0]), (series(1, 9, 1), 0, [])]
        await obeyed_alone(3, Kind("Forecast", ask, paths, [*plain, *wide], bad, 1e-4, most=1))


async def obeyed_alone(seed: int, kind: Kind) -> None:
    """As `obeyed`, where a request holds one item, so that its errors name no number."""
    court = Court([kind], random.Random(seed), numbered=False)
    await court.hear(CALLS, AT_ONCE)
    assert sum(court.endings.values()) == CALLS and court.count("wait", "INVALID_ARGUMENT"), court.endings


@pytest.mark.models
async def test_real_nets_of_sequences(model_store: ModelStore) -> None:
    from tests.service.sequence.calls import FRAMES, packed

    settings = SequenceSettings(store=model_store.root, threads=1, **FLOOR)
    async with running(settings, build_sequence) as (channel, _):
        stub = SequenceServiceStub(channel)

        def embed(items: Sequence[str], timeout: float) -> Any:
            return stub.Embed(sequence.EmbedRequest(texts={"values": items}), timeout=timeout)

        def hear(items: Sequence[Series], timeout: float) -> Any:
            request = sequence.ClassifyRequest(series={"values": items}, step_scores=True)
            return stub.Classify(request, timeout=timeout)

        def spell(items: Sequence[str], timeout: float) -> Any:
            return stub.Transduce(sequence.TransduceRequest(texts=items), timeout=timeout)

        clips = [packed(FRAMES[at : at + length].ravel()) for at, length in ((0, 9), (20, 1), (40, 4), (5, 17))]
        loud = Series(values=[12_000.0])
        await obeyed(
            4,
            Kind("Embed", embed, rows, sentences(8, 20), ["word " * 600], 1e-5, most=4),
            Kind(
                "Classify",
                hear,
                lambda reply: [np.array(one.step_scores) for one in reply.results],
                clips,
                [loud, Series()],
                1e-4,
                most=4,
            ),
            Kind(
                "Transduce",
                spell,
                lambda reply: [one.text for one in reply.results],
                sentences(8, 4),
                ["漢字", " "],
                most=4,
            ),
        )


# --- Tokenization ----------------------------------------------------------------------------------------------


async def test_texts_and_ids(store: ModelStore) -> None:
    """Bit by bit, as promised: nothing is computed together."""
    test_tokenization.publish(store, "chatty", "tokenizer.json", made.byte_level().to_str().encode())
    settings = TokenizationSettings(store=store.root, tokenize_model="chatty", **FLOOR)
    async with running(settings, build_tokenization) as (channel, _):
        stub = TokenizationServiceStub(channel)

        def tokenize(items: Sequence[str], timeout: float) -> Any:
            request = tokenization.TokenizeRequest(texts=items, include=test_tokenization.ALL_COLUMNS)
            return stub.Tokenize(request, timeout=timeout)

        def detokenize(items: Sequence[TokenIds], timeout: float) -> Any:
            return stub.Detokenize(tokenization.DetokenizeRequest(sequences=items), timeout=timeout)

        texts = ["", "héllo 日本語 🙂\n\n  x", "x" * 3000, "<|im_start|>", *sentences(6, 90)]
        ids = [TokenIds(values=[n, n + 1, 300 - n]) for n in range(9)]
        await obeyed(
            5,
            Kind(
                "Tokenize",
                tokenize,
                lambda reply: [one.SerializeToString(deterministic=True) for one in reply.encodings],
                texts,
                ["y" * (1 << 20) + "y"],
            ),
            Kind("Detokenize", detokenize, lambda reply: reply.texts, ids, [TokenIds(values=[10**6])]),
        )
