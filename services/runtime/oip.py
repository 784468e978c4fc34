"""The Open Inference Protocol over a model host. Knows tensors and names, not what a model computes."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime.context import current
from services.runtime.errors import ModelNotFound, Unimplemented
from services.runtime.health import Readiness
from services.runtime.host import Loaded, ModelHost
from services.runtime.oip_checks import check_inputs, check_version, requested
from services.runtime.oip_tensors import Array, read_inputs, write_outputs
from services.runtime.states import State
from services.runtime.store.manifest import Manifest, TensorSpec

NAME, VERSION = "maas", "0.1.0"
EXTENSIONS = ("binary_tensor_data", "parameters")
# Elements read on the event loop; more go to a thread, whose start costs as much as reading these.
MOST_READ_HERE = 4096


class Inferable(Loaded, Protocol):
    """A loaded model that also speaks tensors. Datatypes in the specs are the protocol's: FP32, INT64, BYTES."""

    @property
    def oip_inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def oip_outputs(self) -> Sequence[TensorSpec]: ...

    async def infer(self, inputs: Mapping[str, Array], deadline: float | None) -> Mapping[str, Array]:
        """Outputs by name for checked inputs; the first axis is the batch."""


Model = TypeVar("Model", bound=Inferable)


class OipService(pb_grpc.GRPCInferenceServiceServicer, Generic[Model]):
    """ServerLive to ModelInfer; the other extensions answer UNIMPLEMENTED."""

    def __init__(self, host: ModelHost[Model], readiness: Readiness) -> None:
        self._host, self._readiness = host, readiness

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
        known = [s for s in self._host.statuses() if s.manifest.name == request.name]
        if not known:
            raise ModelNotFound("model", request.name, self._host.loaded())
        check_version(request.version)
        ready = any(s.state is State.SERVING and request.version in ("", str(s.manifest.version)) for s in known)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: aio.ServicerContext
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=VERSION, extensions=EXTENSIONS)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: aio.ServicerContext
    ) -> pb.ModelMetadataResponse:
        check_version(request.version)
        with self._host.lease(request.name, request.version, "") as model:
            return _metadata(model)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: aio.ServicerContext
    ) -> pb.ModelInferResponse:
        check_version(request.model_version)
        with self._host.lease(request.model_name, request.model_version, "") as model:
            check_inputs(request, model.oip_inputs)
            names = requested(request, model.oip_outputs)
            outputs = await model.infer(await _read(request), current().deadline)
            return await asyncio.to_thread(_reply, request, model, {name: outputs[name] for name in names})

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        # A stream refused before its first message was read loses its status in grpc.aio clients.
        await anext(aiter(request_iterator), None)
        raise Unimplemented("ModelStreamInfer is not served; use ModelInfer")
        yield  # a streaming handler is an async generator

    async def ModelConfig(self, request: object, context: aio.ServicerContext) -> pb.ModelConfigResponse:
        raise Unimplemented("ModelConfig is not served; use ModelMetadata")

    async def ModelStatistics(self, request: object, context: aio.ServicerContext) -> pb.ModelStatisticsResponse:
        raise Unimplemented("ModelStatistics is not served; use the Prometheus port")

    async def RepositoryIndex(self, request: object, context: aio.ServicerContext) -> pb.RepositoryIndexResponse:
        raise Unimplemented("RepositoryIndex is not served; use maas.model.v1.ModelService/ListModels")

    async def RepositoryModelLoad(
        self, request: object, context: aio.ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        raise Unimplemented("RepositoryModelLoad is not served; use maas.model.v1.ModelService/LoadModel")

    async def RepositoryModelUnload(
        self, request: object, context: aio.ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        raise Unimplemented("RepositoryModelUnload is not served; use maas.model.v1.ModelService/UnloadModel")


async def _read(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The inputs, whose shapes are checked: what is read is no more than they say."""
    elements = sum(math.prod(tensor.shape) for tensor in request.inputs)
    if elements <= MOST_READ_HERE:
        return read_inputs(request)
    return await asyncio.to_thread(read_inputs, request)


def _reply(request: pb.ModelInferRequest, model: Inferable, outputs: Mapping[str, Array]) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(
        model_name=model.manifest.name, model_version=str(model.manifest.version), id=request.id
    )
    datatypes = {spec.name: spec.dtype for spec in model.oip_outputs}
    write_outputs(response, outputs, datatypes, raw=bool(request.raw_input_contents))
    return response


def _metadata(model: Inferable) -> pb.ModelMetadataResponse:
    manifest = model.manifest
    reply = pb.ModelMetadataResponse(
        name=manifest.name, versions=[str(manifest.version)], platform=_platform(manifest)
    )
    for spec in model.oip_inputs:
        reply.inputs.add(name=spec.name, datatype=spec.dtype, shape=spec.shape)
    for spec in model.oip_outputs:
        reply.outputs.add(name=spec.name, datatype=spec.dtype, shape=spec.shape)
    for key, value in manifest.preprocessing.items():
        reply.properties[key] = str(value)
    return reply


def _platform(manifest: Manifest) -> str:
    return {"onnxruntime": "onnxruntime_onnx", "torch": "pytorch"}.get(manifest.runner, manifest.runner)
