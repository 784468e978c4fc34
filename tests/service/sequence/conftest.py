"""One server for each file."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from grpc import aio

from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running


@pytest.fixture(scope="module")
def settings(model_store: ModelStore) -> SequenceSettings:
    return SequenceSettings(port=0, store=model_store.root, lame_duck_s=0, drain_s=1, metrics_port=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(settings: SequenceSettings) -> AsyncIterator[aio.Channel]:
    async with running(settings, build) as (channel, _):
        yield channel


@pytest.fixture(scope="module")
def stub(channel: aio.Channel) -> Any:
    return SequenceServiceStub(channel)


@pytest.fixture(scope="module")
def inference(channel: aio.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)
