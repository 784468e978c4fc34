"""`python -m gateway`: settings → backends → model index → cache → pipeline → services → serve."""

import asyncio

from gateway.backends import Backend, Backends
from gateway.breaker import Breaker
from gateway.cache import Cache
from gateway.cache_stats import CacheStats
from gateway.fanout import FanOut
from gateway.follow import follow
from gateway.forward import Forwarder
from gateway.lru import ByteLRU
from gateway.methods import SERVICES, by_request, methods_of
from gateway.model_service import ModelService
from gateway.oip_service import OipService, add_oip
from gateway.pipeline import Pipeline
from gateway.redis_cache import RedisCache
from gateway.service import GatewayService
from gateway.settings import GatewaySettings
from gateway.versions import ModelIndex
from maas.gateway.v1 import gateway_service_pb2_grpc
from maas.model.v1 import model_pb2, model_service_pb2_grpc
from services.runtime.health import OVERALL, model_service
from services.runtime.server import Floor, main


async def build(floor: Floor[GatewaySettings]) -> None:
    """Serves the contracts of all services, its own, ModelService for all, and the Open Inference Protocol."""
    settings = floor.settings
    stats = CacheStats(floor.metrics)
    cache = open_cache(settings, stats)
    backends, index = watched(floor)
    pipeline = Pipeline(backends, index, cache, stats)
    floor.on_close(cache.close)
    forwarder = Forwarder(pipeline, backends)
    for area in SERVICES:
        floor.add(forwarder.add(area), forwarder)
    floor.add(add_oip, OipService(pipeline, backends, index))
    methods = by_request(m for area, service in SERVICES.items() for m in methods_of(area, service))
    front = GatewayService(FanOut(pipeline, methods), backends, cache, stats, floor.admission)
    floor.add(gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server, front)
    models = ModelService(backends, index)
    floor.add(model_service_pb2_grpc.add_ModelServiceServicer_to_server, models, admitted=False)


def open_cache(settings: GatewaySettings, stats: CacheStats) -> Cache:
    """Both tiers; without a Redis URL the first alone."""
    redis = None
    if settings.redis_url:
        breaker = Breaker(settings.redis_breaker_faults, settings.redis_breaker_open_s, on_change=stats.breaker)
        connect_s, operation_s = settings.redis_connect_ms / 1000, settings.redis_operation_ms / 1000
        redis = RedisCache(settings.redis_url, connect_s, operation_s, breaker, stats.fault)
    return Cache(ByteLRU(settings.cache_memory_bytes), redis, settings.cache_ttl_s, settings.cache_value_bytes)


def watched(floor: Floor[GatewaySettings]) -> tuple[Backends, ModelIndex]:
    """The services and their models, followed from start to close; both show in this server's health."""
    settings, readiness = floor.settings, floor.readiness

    def backend_changed(backend: Backend) -> None:
        readiness.set(f"maas.backend/{backend.name}", bool(backend.healthy))
        for model in index.models():
            model_changed(model)

    def model_changed(model: model_pb2.Model) -> None:
        answers = any(backends[area].healthy for area in index.serving_areas(model.name))
        readiness.set(model_service(model.name), answers)

    backends = Backends(settings.addresses, settings.max_message_bytes, backend_changed)
    index = ModelIndex(model_changed)
    following: list[asyncio.Task[None]] = []

    async def end_with_health() -> None:
        async for _ in readiness.watch(OVERALL):
            pass
        index.end_watches()

    async def start() -> None:
        backends.start()
        following.append(asyncio.create_task(end_with_health()))
        following.extend(
            asyncio.create_task(follow(b, index, settings.models_refresh_s)) for b in backends.values()
        )
        await settled(backends, index, settings.start_wait_s)

    async def close() -> None:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await backends.close()

    for name in backends:
        readiness.set(f"maas.backend/{name}", False)
    floor.on_start(start)
    floor.on_close(close)
    return backends, index


async def settled(backends: Backends, index: ModelIndex, wait_s: float) -> None:
    """Waits until every service said whether it serves and, if so, what; at most `wait_s`."""

    async def known(backend: Backend) -> None:
        for replica in backend.replicas:
            await replica.known.wait()
        if backend.healthy:
            await index.told(backend.name)

    waits = [asyncio.create_task(known(backend)) for backend in backends.values()]
    _, late = await asyncio.wait(waits, timeout=wait_s)
    for task in late:
        task.cancel()


if __name__ == "__main__":
    main(GatewaySettings, build, "gateway")
