"""The generation service over vLLM, on a thread with a loop of its own: it starts slowly, so tests share one."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest

from maas.generation.v1.generation_service_pb2_grpc import (
    GenerationServiceStub as Stub,
)
from maas.generation.v1.generation_service_pb2_grpc import (
    add_GenerationServiceServicer_to_server,
)
from services.generation.__main__ import open_host
from services.generation.adapters import TASK
from services.generation.backends.vllm.capabilities import HONOURED
from services.generation.capabilities import given
from services.generation.model import GenerationModel
from services.generation.service import GenerationService
from services.generation.settings import GenerationSettings
from services.runtime.floor import Floor
from services.runtime.host import ModelHost

# Its import and its processes' start take long, and it warns of its own ways.
ON_VLLM = [pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


@dataclass
class VLLMServed:
    """A running service: its port, and what lies behind it on the other thread."""

    port: int
    floor: Floor[GenerationSettings]
    host: ModelHost[GenerationModel]

    @property
    def engine(self) -> Any:
        """vLLM's own."""
        with self.host.lease("tiny", "", TASK) as model:
            return model.worker._client._client._engine

    def passes(self) -> float:
        """Of the engine so far."""
        return self.floor.metrics.batch_size.labels("tiny")._sum.get()


@dataclass
class DeclaredOnly:
    """The stub for requests whose fields the backend declares; skips the test, naming the others."""

    stub: Stub

    def Generate(self, request: Any, **how: Any) -> Any:
        return self._checked(request).Generate(request, **how)

    def GenerateStream(self, request: Any, **how: Any) -> Any:
        return self._checked(request).GenerateStream(request, **how)

    def Score(self, request: Any, **how: Any) -> Any:
        return self.stub.Score(request, **how)

    def _checked(self, request: Any) -> Stub:
        if undeclared := set(given(request)) - HONOURED:
            pytest.skip(f"vLLM does not declare {', '.join(sorted(undeclared))}")
        return self.stub


@contextmanager
def vllm_serving(settings: GenerationSettings) -> Iterator[VLLMServed]:
    """The service, for the length of the block."""
    started: Future[VLLMServed] = Future()
    stopped: Future[None] = Future()
    thread = Thread(target=lambda: asyncio.run(_serve(settings, started, stopped)))
    thread.start()
    try:
        yield started.result()
    finally:
        stopped.set_result(None)
        thread.join()


async def _serve(settings: GenerationSettings, started: "Future[VLLMServed]", stopped: "Future[None]") -> None:
    floor: Floor[GenerationSettings] = Floor(settings)
    host = open_host(floor)
    floor.add(add_GenerationServiceServicer_to_server, GenerationService(host))
    try:
        started.set_result(VLLMServed(await floor.start(), floor, host))
        await asyncio.wrap_future(stopped)
    except Exception as error:
        started.set_exception(error)
    finally:
        await floor.close()
