"""A version with other weights is published under load: no call fails, no reply mixes two versions, hits too."""

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from grpc import aio

from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.model.v1.model_service_pb2 import WatchModelsRequest
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.generation.models.causal_lm import CausalLM
from services.runtime.store.store import ModelStore
from tests.service.generation import publish as publish_words
from tests.service.vision import calls
from tests.suite.conftest import Suite
from training.sampling import sample

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

CLIENTS, REPEATED = 12, 8
BEFORE_S, AFTER_S = 1.5, 1.5
TOKENS = 8


@dataclass(frozen=True)
class Reply:
    """One answered call: its question, what it was told, and by whom."""

    question: int
    begun: float
    version: str
    digest: str
    outcome: str
    answer: Any


class Subject(ABC):
    """A model with two versions, and its questions by number."""

    name: str
    questions: int

    @abstractmethod
    def publish(self, store: ModelStore) -> None:
        """The next version, its weights its own."""

    @abstractmethod
    def ask(self, channel: aio.Channel, question: int) -> Any:
        """The call."""

    @abstractmethod
    def answer(self, message: Any) -> Any:
        """What its reply says."""

    @abstractmethod
    def agrees(self, version: str, question: int, answer: Any) -> bool:
        """Whether the net of `version` gives this answer."""


class Digits(Subject):
    """Small pictures to ten classes."""

    name, questions = "swapped-digits", 800

    def __init__(self) -> None:
        self._truth: dict[str, np.ndarray] = {}
        self._pixels = torch.from_numpy(np.stack([calls.normalised(seed) for seed in range(self.questions)]))

    def publish(self, store: ModelStore) -> None:
        version = str(len(self._truth) + 1)
        net = calls.publish(store, self.name, seed=len(self._truth))
        with torch.inference_mode():
            self._truth[version] = net(self._pixels)[0].softmax(-1).numpy()

    def ask(self, channel: aio.Channel, question: int) -> Any:
        request = calls.classify(calls.encoded(question), model=self.name, top_k=10)
        return VisionServiceStub(channel).Classify(request, timeout=20)

    def answer(self, message: Any) -> Any:
        labels = sorted(message.results[0].labels, key=lambda label: label.index)
        return np.array([label.score for label in labels])

    def agrees(self, version: str, question: int, answer: Any) -> bool:
        return np.allclose(answer, self._truth[version][question], atol=1e-5)


class Words(Subject):
    """Greedy tokens of a tiny language model."""

    name, questions = "swapped-words", 60

    def __init__(self) -> None:
        self._nets: dict[str, CausalLM] = {}
        self._prompts = np.random.default_rng(5).integers(0, 300, (self.questions, 5)).tolist()

    def publish(self, store: ModelStore) -> None:
        seed = len(self._nets)
        net = publish_words(store, self.name, seed=seed, eos_token="<|im_end|>")
        self._nets[str(seed + 1)] = net

    def ask(self, channel: aio.Channel, question: int) -> Any:
        request = generation.GenerateRequest(model=self.name, stopping={"max_tokens": TOKENS, "ignore_eos": True})
        request.token_ids.values.extend(self._prompts[question])
        return GenerationServiceStub(channel).Generate(request, timeout=20)

    def answer(self, message: Any) -> Any:
        return tuple(message.completions[0].token_ids)

    def agrees(self, version: str, question: int, answer: Any) -> bool:
        prompt = self._prompts[question]
        (row,) = sample(self._nets[version], prompt, len(prompt) + TOKENS, 1, 0, 0)
        return tuple(row[len(prompt) :]) == answer


async def call(subject: Subject, channel: aio.Channel, question: int) -> Reply:
    begun = time.monotonic()
    made = subject.ask(channel, question)
    message = await made
    headers = dict(await made.initial_metadata())
    by = message.served_by
    return Reply(question, begun, by.version, by.digest, headers["x-maas-cache"], subject.answer(message))


async def client(
    subject: Subject, channel: aio.Channel, fresh: Iterator[int], number: int, until: asyncio.Event
) -> list[Reply]:
    """Questions in turn, every other one of the few that all ask again and again. A failed call ends the test."""
    replies = []
    for turn in itertools.count(number):
        if until.is_set():
            break
        question = turn // 2 % REPEATED if turn % 2 else next(fresh)
        replies.append(await call(subject, channel, question))
    return replies


async def announced(channel: aio.Channel, name: str, version: str) -> None:
    """Returns once the gateway has told that calls without a version get `version`: it serves a moment before."""
    watch = ModelServiceStub(channel).WatchModels(WatchModelsRequest(model=name), timeout=60)
    async for change in watch:
        if change.model.version == version and change.model.answers_unversioned:
            watch.cancel()
            return


async def swapped(suite: Suite, subject: Subject) -> tuple[list[list[Reply]], float]:
    """The replies of each client while version 2 takes the place of version 1, and when that was announced."""
    store, done = ModelStore(suite.store), asyncio.Event()
    fresh = itertools.cycle(range(REPEATED, subject.questions))
    async with aio.insecure_channel(suite.address()) as channel:
        await asyncio.to_thread(subject.publish, store)
        await loaded(channel, subject)
        clients = [asyncio.create_task(client(subject, channel, fresh, n, done)) for n in range(CLIENTS)]
        await asyncio.sleep(BEFORE_S)
        news = asyncio.create_task(announced(channel, subject.name, "2"))
        await asyncio.to_thread(subject.publish, store)
        await news
        when = time.monotonic()
        await asyncio.sleep(AFTER_S)
        done.set()
        return await asyncio.gather(*clients), when


async def loaded(channel: aio.Channel, subject: Subject) -> None:
    """Waits for the first version: a model that is new to the gateway is not found before."""
    end = time.monotonic() + 60
    while True:
        try:
            await call(subject, channel, 0)
            return
        except aio.AioRpcError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("make", [Digits, Words])
async def test_a_swap_under_load(suite: Suite, make: Callable[[], Subject]) -> None:
    torch.set_num_threads(1)
    subject = await asyncio.to_thread(make)
    by_client, when = await swapped(suite, subject)
    replies = [reply for mine in by_client for reply in mine]
    digests = {str(n): ModelStore(suite.store).manifest(subject.name, n).digest for n in (1, 2)}
    assert all(digests[reply.version] == reply.digest for reply in replies)
    known: dict[tuple[str, int], Any] = {}
    for reply in replies:
        first = known.setdefault((reply.version, reply.question), reply.answer)
        np.testing.assert_allclose(reply.answer, first, atol=1e-5)
    for (version, question), answer in known.items():
        assert subject.agrees(version, question, answer)
        assert not subject.agrees({"1": "2", "2": "1"}[version], question, answer)
    for mine in by_client:
        assert mine[0].version == "1" and mine[-1].version == "2"
        assert {reply.version for reply in mine if reply.begun > when} == {"2"}
    outcomes = {(reply.version, reply.outcome) for reply in replies}
    assert {("1", "miss"), ("1", "hit-l1"), ("2", "miss"), ("2", "hit-l1")} <= outcomes
