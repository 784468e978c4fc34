"""The Open Inference Protocol at the gateway: each call goes to the service that has the model."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio

from gateway import homes, upstream
from gateway.backends import Backends
from gateway.forward import tell, unread
from gateway.methods import method_of
from gateway.oip_statistics import added
from gateway.oip_stream import Lines, Open
from gateway.pipeline import Pipeline
from gateway.relay import Metadata, unreachable
from gateway.versions import ModelIndex
from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime import oip_names
from services.runtime.errors import ModelNotFound, ServiceError
from services.runtime.oip_repository import Administration, Repository, check_repository
from services.runtime.oip_stream import STRICT, answered, is_strict
from services.runtime.unread import Unread

AREAS = ("vision", "sequence")
# A service that hangs must not hide the other.
ANSWER_WITHIN_S = 5.0
_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_PATH = f"/{_SERVICE.full_name}/"
_PASSED = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer")


class OipService:
    """What is asked of the suite is answered here; what names a model is passed on."""

    def __init__(self, pipeline: Pipeline, backends: Backends, index: ModelIndex, admin: Administration) -> None:
        self._pipeline, self._backends, self._index = pipeline, backends, index
        repository = Repository(admin)
        self._own = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._metadata,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": repository.load,
            "RepositoryModelUnload": repository.unload,
        }

    def handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler:
        """Serves one method of the protocol."""
        kind = method_of("", method)
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream, kind.request.FromString, kind.response.SerializeToString
            )
        if method.name in _PASSED:
            return grpc.unary_unary_rpc_method_handler(self._passing(method.name), unread(kind))
        return grpc.unary_unary_rpc_method_handler(
            self._own[method.name], kind.request.FromString, kind.response.SerializeToString
        )

    def area_of(self, model: str) -> str:
        """The service that has the model. Raises ModelNotFound, or Unavailable while a service has not told."""
        found = [area for area in self._index.areas_of(model) if area in AREAS]
        if found:
            return found[0]
        silent = [area for area in AREAS if not self._index.knows(area)]
        if silent:
            raise unreachable(silent[0], "its models are not known yet")
        raise ModelNotFound("model", model, self._index.names())

    async def _live(self, request: pb.ServerLiveRequest, context: aio.ServicerContext) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, request: pb.ServerReadyRequest, context: aio.ServicerContext) -> pb.ServerReadyResponse:
        ready = await asyncio.gather(*(self._area_ready(area) for area in AREAS))
        return pb.ServerReadyResponse(ready=all(ready))

    async def _metadata(
        self, request: pb.ServerMetadataRequest, context: aio.ServicerContext
    ) -> pb.ServerMetadataResponse:
        return oip_names.metadata(sequences=True)

    async def _statistics(
        self, request: pb.ModelStatisticsRequest, context: aio.ServicerContext
    ) -> pb.ModelStatisticsResponse:
        areas = [self.area_of(request.name)] if request.name else AREAS
        body = request.SerializeToString()
        told = await asyncio.gather(
            *(upstream.call_each(self._backends[area], f"{_PATH}ModelStatistics", body) for area in areas)
        )
        return added(pb.ModelStatisticsResponse.FromString(reply) for replies in told for reply in replies)

    async def _repository_index(
        self, request: pb.RepositoryIndexRequest, context: aio.ServicerContext
    ) -> pb.RepositoryIndexResponse:
        check_repository(request.repository_name)
        told = await asyncio.gather(*(self._area_index(area, request) for area in AREAS))
        return pb.RepositoryIndexResponse(models=[entry for entries in told for entry in entries])

    async def _area_ready(self, area: str) -> bool:
        try:
            reply = await upstream.call(self._backends[area], f"{_PATH}ServerReady", b"")
        except ServiceError:
            return False
        return pb.ServerReadyResponse.FromString(reply.body).ready

    async def _area_index(
        self, area: str, request: pb.RepositoryIndexRequest
    ) -> Sequence[pb.RepositoryIndexResponse.ModelIndex]:
        """What the service says; while it does not, its models as they were, none of them ready."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                body = request.SerializeToString()
                reply = await upstream.call(self._backends[area], f"{_PATH}RepositoryIndex", body)
            return pb.RepositoryIndexResponse.FromString(reply.body).models
        except TimeoutError:
            why = unreachable(area, f"no answer within {ANSWER_WITHIN_S:g} s").message
        except ServiceError as error:
            why = error.message
        known = [model for model in self._index.models() if model.service == area and not request.ready]
        return [oip_names.entry(model.name, model.version, "UNLOADED", why) for model in known]

    def _passing(self, name: str) -> Any:
        async def handle(came: Unread, context: aio.ServicerContext) -> bytes:
            request: Any = came.message()
            model = request.model_name if name == "ModelInfer" else request.name
            # A step of a sequence that was sent twice would be two steps.
            key = homes.of_sequence(request) if name == "ModelInfer" else None
            once = key is not None
            # As it came: a large tensor is not written anew.
            return tell(await self._pipeline.forward(self.area_of(model), _PATH + name, came.data, once, key))

        return handle

    async def _stream(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        lines = Lines(self.area_of, self._open_to)
        try:
            async with aclosing(answered(requests, lines.ask)) as replies:  # type: ignore[type-var]
                async for reply in replies:
                    yield reply
        finally:
            await lines.close()

    def _open_to(self, area: str) -> Open:
        along = ((STRICT, "true"),) if is_strict() else ()
        path = f"{_PATH}ModelStreamInfer"
        return partial(upstream.bidi_stream, self._backends[area], path, announce=_silent, more=along)


async def _silent(metadata: Metadata) -> None:
    """A stream over several services has no one beginning to tell of."""


def add_oip(service: OipService, server: Any) -> None:
    """A stand-in for the generated `add_GRPCInferenceServiceServicer_to_server`."""
    handlers = {method.name: service.handler(method) for method in _SERVICE.methods}
    server.add_registered_method_handlers(_SERVICE.full_name, handlers)
