"""A server for each test, with one version of the digit net."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from grpc import aio

from services.runtime.floor import Floor
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from services.vision.settings import VisionSettings
from tests.harness import running
from tests.service.vision.calls import Stub, publish, settings


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    torch.set_num_threads(1)
    return ModelStore(tmp_path)


@pytest.fixture
def net(store: ModelStore) -> torch.nn.Module:
    return publish(store, "digits", seed=1)


@pytest.fixture
async def server(
    store: ModelStore, net: torch.nn.Module
) -> AsyncIterator[tuple[aio.Channel, Floor[VisionSettings]]]:
    async with running(settings(store), build) as started:
        yield started


@pytest.fixture
def stub(server: tuple[aio.Channel, Floor[VisionSettings]]) -> Stub:
    return Stub(server[0])
