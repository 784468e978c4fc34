"""Fixtures of the generation tests; files about other services have their own of the same names."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch

from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from maas.generation.v1.generation_service_pb2_grpc import (
    add_GenerationServiceServicer_to_server,
)
from services.generation.__main__ import open_host
from services.generation.model import GenerationModel
from services.generation.service import GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.host import ModelHost
from services.runtime.server import Floor
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import NAMED, Served, publish


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    torch.set_num_threads(1)
    made = ModelStore(tmp_path_factory.mktemp("store"))
    publish(made, "tiny", **NAMED)
    publish(made, "mute", eos_token="<|im_end|>")
    return made


@pytest.fixture
def overrides() -> dict[str, Any]:
    return {}


@pytest.fixture
async def served(store: ModelStore, overrides: dict[str, Any]) -> AsyncIterator[Served]:
    values = {
        "port": 0,
        "metrics_port": 0,
        "lame_duck_s": 0,
        "drain_s": 5,
        "generate_model": "tiny",
        "kv_cache_mib": 16,
    }
    hosts: list[ModelHost[GenerationModel]] = []

    async def build_kept(floor: Floor[GenerationSettings]) -> None:
        hosts.append(open_host(floor))
        floor.add(add_GenerationServiceServicer_to_server, GenerationService(hosts[0]))

    async with running(GenerationSettings(store=store.root, **{**values, **overrides}), build_kept) as (
        channel,
        _,
    ):
        yield Served(Stub(channel), hosts[0])


@pytest.fixture
def stub(served: Served) -> Stub:
    return served.stub
