"""The Open Inference Protocol at the gateway: each call goes to the service that has the model."""

import asyncio
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio

from gateway import upstream
from gateway.backends import Backends
from gateway.forward import tell
from gateway.methods import method_of
from gateway.pipeline import Pipeline
from gateway.relay import unreachable
from gateway.versions import ModelIndex
from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import ModelNotFound, ServiceError, Unimplemented

AREAS = ("vision", "sequence")
NAME, VERSION = "maas", "0.1.0"
EXTENSIONS = ("binary_tensor_data", "parameters")
_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class OipService:
    """Live, ready and metadata of the suite are answered here; what names a model is passed on."""

    def __init__(self, pipeline: Pipeline, backends: Backends, index: ModelIndex) -> None:
        self._pipeline, self._backends, self._index = pipeline, backends, index

    def handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler:
        """Serves one method of the protocol."""
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(_refused_stream)
        local = {"ServerLive": self._live, "ServerReady": self._ready, "ServerMetadata": self._metadata}
        request = method_of("", method).request.FromString
        if method.name in local:
            reply = method_of("", method).response.SerializeToString
            return grpc.unary_unary_rpc_method_handler(local[method.name], request, reply)
        if method.name in ("ModelReady", "ModelMetadata", "ModelInfer"):
            return grpc.unary_unary_rpc_method_handler(self._passing(method), request)
        return grpc.unary_unary_rpc_method_handler(_refuse(method.name), request)

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
        return pb.ServerMetadataResponse(name=NAME, version=VERSION, extensions=EXTENSIONS)

    async def _area_ready(self, area: str) -> bool:
        try:
            reply = await upstream.call(self._backends[area], f"/{_SERVICE.full_name}/ServerReady", b"")
        except ServiceError:
            return False
        return pb.ServerReadyResponse.FromString(reply.body).ready

    def _passing(self, method: MethodDescriptor) -> Any:
        path = f"/{_SERVICE.full_name}/{method.name}"

        async def handle(request: Any, context: aio.ServicerContext) -> bytes:
            model = request.model_name if method.name == "ModelInfer" else request.name
            answer = await self._pipeline.forward(self.area_of(model), path, request.SerializeToString())
            return await tell(answer, context)

        return handle


def add_oip(service: OipService, server: Any) -> None:
    """A stand-in for the generated `add_GRPCInferenceServiceServicer_to_server`."""
    handlers = {method.name: service.handler(method) for method in _SERVICE.methods}
    server.add_registered_method_handlers(_SERVICE.full_name, handlers)


def _refuse(name: str) -> Any:
    async def handle(request: Any, context: aio.ServicerContext) -> Any:
        raise Unimplemented(f"{name} is not served; see maas.model.v1.ModelService for models and their states")

    return handle


async def _refused_stream(requests: Any, context: aio.ServicerContext) -> Any:
    # Read first: a client still sending would see its write fail, not this answer.
    async for _ in requests:
        break
    raise Unimplemented("ModelStreamInfer is not served; use ModelInfer")
    yield  # a streaming handler is an async generator
