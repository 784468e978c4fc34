"""Hostile pictures, messages and tensors against the live suite: each is answered or refused, and nothing grows.

A case that fails is made again by `cases.case(seed, number)`.
"""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from maas.model.v1 import model_service_pb2
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from tests.suite.conftest import Suite
from tests.suite.fuzz import cases
from tests.suite.fuzz.siege import Siege
from tests.unit.training import stored

pytestmark = pytest.mark.models
SERVICES = ("gateway", "tokenization", "vision", "sequence")
MANY, FEW = 100_000, 2000
WARM_TENTHS, GROWTH, SPARE_MIB = 4, 1.05, 24.0  # the spare: bounded caches that fill


@pytest.fixture(scope="module")
def besieged(suite: Suite) -> Iterator[Suite]:
    """With a forecaster and a classifier of series, which no default store has."""
    errors = np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    stored.forecaster(suite.store, name=cases.FORECASTER, errors=errors)
    stored.series_classifier(suite.store, name=cases.MOTIONS)
    for name in (cases.FORECASTER, cases.MOTIONS):
        await_model(suite, name)
    yield suite


def await_model(suite: Suite, name: str) -> None:
    """Loads it, and waits until the gateway knows."""
    request = model_service_pb2.LoadModelRequest(model=name)
    ModelServiceStub(suite.channel("sequence")).LoadModel(request, timeout=60)
    watch = ModelServiceStub(suite.channel()).WatchModels(model_service_pb2.WatchModelsRequest(), timeout=60)
    assert any(update.model.name == name for update in watch)
    watch.cancel()


def siege_of(suite: Suite, seed: int, patient: bool = False) -> Siege:
    pids = {name: suite.pid(name) for name in SERVICES}
    return Siege({name: suite.address(name) for name in SERVICES}, pids, seed, patient)


def judged(suite: Suite, siege: Siege, count: int) -> None:
    """Every call ended fairly, no process died, and a good call is answered."""
    print(f"\n{siege.told()}")
    assert not siege.unfair, "\n".join(siege.unfair[:20])
    assert sum(siege.endings.values()) == count
    assert {code for _, code in siege.endings} >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert {name: suite.pid(name) for name in SERVICES} == siege.pids
    for name in ("gateway", "tokenization"):
        reply = TokenizationServiceStub(suite.channel(name)).Tokenize(
            tokenization.TokenizeRequest(texts=["Hello world!"]), timeout=10
        )
        assert list(reply.encodings[0].ids) == [19556, 905, 17]


def test_hostile_calls_are_answered_or_refused(besieged: Suite) -> None:
    siege = siege_of(besieged, seed=1)
    asyncio.run(siege.run(range(FEW)))
    judged(besieged, siege, FEW)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_hundred_thousand_hostile_calls_leave_memory_flat(besieged: Suite) -> None:
    siege = siege_of(besieged, seed=2, patient=True)
    asyncio.run(siege.run(range(MANY)))
    judged(besieged, siege, MANY)
    for name in SERVICES:
        warm = siege.tenths(name)[WARM_TENTHS:]
        assert warm[-1] < GROWTH * warm[0] + SPARE_MIB, f"{name}: {siege.tenths(name)}"
