"""maas.gateway.v1.GatewayService: what only the front door can do."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from importlib import metadata

from grpc import aio

from gateway.backends import Backends
from gateway.cache import Cache
from gateway.cache_stats import CacheStats
from gateway.convert import backend_statuses, cache_status, service_loads
from gateway.fanout import FanOut
from gateway.flush import Flusher
from gateway.one_call import Finished
from gateway.steps.pipelines import Pipelines
from gateway.tenancy.report import Reports
from maas.gateway.v1 import gateway_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from services.runtime.admission import Admission
from services.runtime.context import current


class GatewayService(gateway_service_pb2_grpc.GatewayServiceServicer):
    """Convert → call → convert."""

    def __init__(
        self,
        fanout: FanOut,
        pipelines: Pipelines,
        flusher: Flusher,
        backends: Backends,
        cache: Cache,
        stats: CacheStats,
        admission: Admission,
        reports: Reports,
    ) -> None:
        self._fanout, self._pipelines, self._flusher, self._backends = fanout, pipelines, flusher, backends
        self._cache, self._stats, self._admission, self._reports = cache, stats, admission, reports
        self._started = time.monotonic()

    async def FanOut(
        self, request: gateway_service_pb2.FanOutRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.FanOutResponse:
        finished = await self._fanout.together(request.calls, request.max_parallel, request.fail_fast)
        return gateway_service_pb2.FanOutResponse(results=_ordered(finished))

    async def FanOutStream(
        self, request: gateway_service_pb2.FanOutStreamRequest, context: aio.ServicerContext
    ) -> AsyncIterator[gateway_service_pb2.FanOutStreamResponse]:
        async with aclosing(self._fanout.run(request.calls, request.max_parallel, request.fail_fast)) as ends:
            async for end in ends:
                yield gateway_service_pb2.FanOutStreamResponse(result=end.result)

    async def RunPipeline(
        self, request: gateway_service_pb2.RunPipelineRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.RunPipelineResponse:
        async with aclosing(self._pipelines.run(request)) as ends:
            finished = [end async for end in ends]
        return gateway_service_pb2.RunPipelineResponse(results=_ordered(finished))

    async def RunPipelineStream(
        self, request: gateway_service_pb2.RunPipelineStreamRequest, context: aio.ServicerContext
    ) -> AsyncIterator[gateway_service_pb2.RunPipelineStreamResponse]:
        async with aclosing(self._pipelines.run(request)) as ends:
            async for end in ends:
                yield gateway_service_pb2.RunPipelineStreamResponse(result=end.result)

    async def ListPipelines(
        self, request: gateway_service_pb2.ListPipelinesRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.ListPipelinesResponse:
        return gateway_service_pb2.ListPipelinesResponse(pipelines=self._pipelines.stored())

    async def GetStatus(
        self, request: gateway_service_pb2.GetStatusRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.GetStatusResponse:
        return gateway_service_pb2.GetStatusResponse(
            version=_version(),
            uptime_s=time.monotonic() - self._started,
            backends=backend_statuses(self._backends.values()),
            loads=service_loads(self._backends.values()),
            cache=cache_status(self._cache, self._stats),
            in_flight=self._admission.inside,
            in_flight_limit=self._admission.limit,
        )

    async def FlushCache(
        self, request: gateway_service_pb2.FlushCacheRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.FlushCacheResponse:
        return await self._flusher.flush(request)

    async def GetUsage(
        self, request: gateway_service_pb2.GetUsageRequest, context: aio.ServicerContext
    ) -> gateway_service_pb2.GetUsageResponse:
        own = current().tenant
        if request.all_tenants or (request.HasField("tenant") and request.tenant != own):
            current().rights.check_administrator("see what other tenants use", context.peer())
        return await self._reports.usage(request, own)


def _ordered(finished: Iterable[Finished]) -> list[gateway_pb2.CallResult]:
    """In the order they were asked for."""
    return [end.result for end in sorted(finished, key=lambda end: end.index)]


def _version() -> str:
    """The installed version; a source tree has none."""
    try:
        return metadata.version("maas")
    except metadata.PackageNotFoundError:
        return "source"
