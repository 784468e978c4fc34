"""`python -m gateway`: settings → backends → model index → cache → pipeline → services → serve."""

from gateway.attempt_metrics import AttemptMetrics
from gateway.cache import Cache, Far
from gateway.cache_stats import CacheStats
from gateway.fanout import FanOut
from gateway.fleet import BehindMe
from gateway.flush import Flusher
from gateway.forward import Forwarder
from gateway.lru import ByteLRU
from gateway.methods import SERVICES, by_request, methods_of
from gateway.model_service import ModelService
from gateway.naming import Namer
from gateway.oip_service import OipService, add_oip
from gateway.one_call import Caller
from gateway.overload.report import OverloadMetrics
from gateway.pipeline import Pipeline
from gateway.redis_cache import RedisCache
from gateway.sealed_cache import SealedCache
from gateway.service import GatewayService
from gateway.settings import GatewaySettings
from gateway.steps.pipelines import Pipelines
from gateway.steps.shelf import Shelf
from gateway.streams.streams import Streams
from gateway.tenancy.open import open_tenancy
from gateway.watch import Watch
from maas.gateway.v1 import gateway_service_pb2_grpc
from maas.model.v1 import model_service_pb2_grpc
from services.runtime.floor import Floor
from services.runtime.redis_link import RedisLink
from services.runtime.sealing import Sealer, keys_of
from services.runtime.server import main


async def build(floor: Floor[GatewaySettings]) -> None:
    """Serves the contracts of all services, its own, ModelService for all, and the Open Inference Protocol."""
    settings = floor.settings
    stats = CacheStats(floor.metrics)
    cache = open_cache(settings, stats)
    watch = Watch(settings, floor.readiness, floor.doorkeeper.vouching, floor.certificates)
    backends, index = watch.backends, watch.index
    floor.on_start(watch.start)
    floor.on_close(watch.close)
    AttemptMetrics(floor.metrics, backends, settings.addresses)
    overload = OverloadMetrics(floor.metrics, backends.values())
    floor.on_start(overload.start)
    floor.on_close(overload.close)
    namer = Namer(index, settings.canary_percent)
    pipeline = Pipeline(backends, index, cache, stats, namer, settings.split_items)
    floor.on_close(cache.close)
    floor.on_close(pipeline.close)
    forwarder = Forwarder(pipeline, Streams(backends, namer, cache, stats), backends)
    for area in SERVICES:
        floor.add(forwarder.add(area), forwarder)
    methods = by_request(m for area, service in SERVICES.items() for m in methods_of(area, service))
    caller, shelf = Caller(pipeline, methods), Shelf(settings.pipelines_file)
    floor.on_start(lambda: shelf.start(settings.store_poll_s))
    floor.on_close(shelf.close)
    fanout = FanOut(caller, settings.max_message_bytes)
    pipelines = Pipelines(caller, shelf, settings.max_message_bytes)
    flusher = Flusher(cache, index)
    floor.on_start(flusher.start)
    floor.on_close(flusher.close)
    reports = open_tenancy(floor)
    front = GatewayService(fanout, pipelines, flusher, backends, cache, stats, floor.admission, reports)
    # What operators and probes ask must be answered when nothing else is.
    free = ("GetStatus", "FlushCache", "GetUsage", "ListPipelines", "ServerLive", "ServerReady", "ModelReady")
    floor.add(gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server, front, free=free)
    floor.fleet = BehindMe(backends)
    models = ModelService(backends, index)
    floor.add(add_oip, OipService(pipeline, backends, index, models), free=free)
    floor.add(model_service_pb2_grpc.add_ModelServiceServicer_to_server, models, admitted=False)


def open_cache(settings: GatewaySettings, stats: CacheStats) -> Cache:
    """Both tiers; without a Redis URL the first alone. With a key, what goes to Redis is sealed."""
    redis: Far | None = None
    if settings.redis_url:
        redis = RedisCache(RedisLink.of(settings, stats.fault, stats.breaker))
        if settings.cache_key is not None:
            sealer = Sealer(keys_of(settings.cache_key.get_secret_value()))
            redis = SealedCache(redis, sealer, stats.unopen)
    return Cache(ByteLRU(settings.cache_memory_bytes), redis, settings.cache_ttl_s, settings.cache_value_bytes)


if __name__ == "__main__":
    main(GatewaySettings, build, "gateway")
