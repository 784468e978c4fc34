"""The Open Inference Protocol over a model host. Knows tensors and names, not what a model computes."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime import oip_config, oip_names
from services.runtime.errors import ModelNotFound
from services.runtime.follow import Follower
from services.runtime.health import Readiness
from services.runtime.model_service import ModelService
from services.runtime.oip_checks import check_version
from services.runtime.oip_infer import Inference
from services.runtime.oip_model import Sequencer
from services.runtime.oip_repository import Repository, check_repository
from services.runtime.oip_statistics import Tallies
from services.runtime.oip_stream import answered, final


class OipService(pb_grpc.GRPCInferenceServiceServicer):
    """Convert → call → convert. Without `sequences` every model forgets a request once it is answered."""

    def __init__(
        self, follower: Follower, readiness: Readiness, tallies: Tallies, sequences: Sequencer | None = None
    ) -> None:
        self._host, self._readiness, self._tallies = follower.host, readiness, tallies
        self._repository = Repository(ModelService(follower))
        self._inference = Inference(follower.host, tallies, sequences)
        self._metadata = oip_names.metadata(sequences is not None)

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: aio.ServicerContext
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: aio.ServicerContext
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=bool(self._host.loaded()) and not self._readiness.draining)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: aio.ServicerContext
    ) -> pb.ModelReadyResponse:
        check_version(request.version)
        if self._host.number(request.name, request.version) in self._host.versions(request.name):
            return pb.ModelReadyResponse(ready=True)
        stored = [str(s.manifest.version) for s in self._host.statuses() if s.manifest.name == request.name]
        if not stored:
            raise ModelNotFound("model", request.name, self._host.loaded())
        if request.version and request.version not in stored:
            raise ModelNotFound(f"version of model {request.name!r}", request.version, stored)
        return pb.ModelReadyResponse(ready=False)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: aio.ServicerContext
    ) -> pb.ServerMetadataResponse:
        return self._metadata

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: aio.ServicerContext
    ) -> pb.ModelMetadataResponse:
        check_version(request.version)
        with self._host.lease(request.name, request.version, "") as model:
            return oip_config.metadata(model, self._host.versions(model.manifest.name))

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: aio.ServicerContext
    ) -> pb.ModelConfigResponse:
        check_version(request.version)
        with self._host.lease(request.name, request.version, "") as model:
            return pb.ModelConfigResponse(
                config=oip_config.config(model, self._host.versions(model.manifest.name))
            )

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        return await self._inference.answer(request)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async with aclosing(answered(request_iterator, self._next)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                yield reply

    async def _next(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        return final(await self._inference.answer(request, patient=True))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: aio.ServicerContext
    ) -> pb.ModelStatisticsResponse:
        check_version(request.version)
        if request.name:
            with self._host.lease(request.name, request.version, "") as model:
                name, version = model.manifest.name, model.manifest.version
            asked = [(name, v) for v in self._host.versions(name) if v == version or not request.version]
        else:
            asked = [(name, v) for name in self._host.loaded() for v in self._host.versions(name)]
        return pb.ModelStatisticsResponse(model_stats=[self._tallies.of(*key).message(*key) for key in asked])

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: aio.ServicerContext
    ) -> pb.RepositoryIndexResponse:
        check_repository(request.repository_name)
        told = [
            oip_names.entry(s.manifest.name, str(s.manifest.version), str(s.state), s.reason)
            for s in self._host.statuses()
        ]
        models = [entry for entry in told if entry.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(models=models)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: aio.ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        return await self._repository.load(request, context)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: aio.ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        return await self._repository.unload(request, context)
