"""A service with more to do than it can: who is answered, who is refused and how, and what is never held up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.__main__ import build
from maas.gateway.v1.gateway_service_pb2 import FlushCacheRequest, GetStatusRequest
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.model.v1.model_service_pb2 import ListModelsRequest
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.vision.v1.vision_service_pb2 import ClassifyRequest
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.status import PUSHBACK_KEY, status_of
from tests.harness import running
from tests.suite.gateway_fakes import Behind, behind, settings, started

NO_STORE = ("cache-control", "no-store")
# One place for default and batch, one that is kept for critical calls; as many may wait.
TIGHT = {"limit_floor": 2, "limit_ceiling": 2}


def classify(channel: aio.Channel, *metadata: tuple[str, str], timeout: float = 20) -> Any:
    request = ClassifyRequest(images=[{"encoded": b"x"}])
    return VisionServiceStub(channel).Classify(request, metadata=(NO_STORE, *metadata), timeout=timeout)


def prior(name: str) -> tuple[str, str]:
    return "x-maas-priority", name


@asynccontextmanager
async def busy(**more: Any) -> AsyncIterator[tuple[aio.Channel, Behind, list[Any], Any]]:
    """A gateway whose one place is taken by a call that waits in the service, and whose line is full."""
    service = behind("vision")
    service.gate.clear()
    async with (
        started(service) as (one,),
        running(settings({"vision": one.address}, **TIGHT, **more), build) as (channel, floor),
    ):
        calls = []
        for place in range(3):
            calls.append(classify(channel))
            await until(channel, lambda load, place=place: load.in_flight + load.queued == place + 1)
        yield channel, service, calls, floor
        service.gate.set()


async def load_of(channel: aio.Channel) -> Any:
    status = await GatewayServiceStub(channel).GetStatus(GetStatusRequest())
    return next(load for load in status.loads if load.service == "vision")


async def until(channel: aio.Channel, true: Any) -> None:
    async with asyncio.timeout(10):
        while not true(await load_of(channel)):
            await asyncio.sleep(0.005)


async def test_who_finds_no_place_is_told_when_to_come_back() -> None:
    async with busy() as (channel, service, calls, floor):
        with pytest.raises(aio.AioRpcError) as refused:
            await classify(channel)
        assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        told = {detail.type_url.rpartition(".")[2] for detail in status_of(refused.value).details}
        assert told == {"ErrorInfo", "RetryInfo"} and b"OVERLOADED" in status_of(refused.value).SerializeToString()
        assert int(str(dict(refused.value.trailing_metadata() or ())[PUSHBACK_KEY])) > 0
        load = await load_of(channel)
        assert (load.limit, load.in_flight, load.queued, load.refused_overloaded) == (2, 1, 2, 1)
        service.gate.set()
        assert len(await asyncio.gather(*calls)) == 3 and service.calls["Classify"] == 3
        await floor.close()
        refused_total = floor.metrics.registry.get_sample_value(
            "maas_backend_refused_total", {"backend": "vision", "priority": "default", "reason": "OVERLOADED"}
        )
        assert refused_total == 1


async def test_a_critical_call_finds_the_place_that_is_kept_for_it() -> None:
    async with busy() as (channel, service, _, _):
        service.ungated = 2
        assert (await classify(channel, prior("critical"))).results


async def test_a_batch_call_gives_way_in_the_line() -> None:
    async with busy() as (channel, service, calls, _):
        with pytest.raises(aio.AioRpcError) as refused:
            await classify(channel, prior("batch"))
        assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        calls[-1].cancel()
        await until(channel, lambda load: load.queued == 1)
        batch = classify(channel, prior("batch"))
        await until(channel, lambda load: load.queued == 2)
        last = classify(channel)
        assert await batch.code() is StatusCode.RESOURCE_EXHAUSTED
        service.gate.set()
        assert await last


async def test_an_unknown_class_is_refused_by_name() -> None:
    async with busy() as (channel, _, _, _):
        call = classify(channel, prior("urgent"))
        assert await call.code() is StatusCode.INVALID_ARGUMENT
        assert "critical, default, batch" in await call.details()


async def test_health_and_administration_are_never_held_up() -> None:
    """Not even where the gateway itself is full."""
    async with busy(queue_limit=3) as (channel, _, calls, _):
        call = classify(channel)
        assert await call.code() is StatusCode.RESOURCE_EXHAUSTED and "in progress" in await call.details()
        for _ in range(3):
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            assert (await ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=5)).models
            assert await GatewayServiceStub(channel).FlushCache(FlushCacheRequest(all=True), timeout=5)
        assert not any(call.done() for call in calls)
