"""Index, load and unload of the Open Inference Protocol's model repository, by way of ModelService."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from grpc import aio

from maas.model.v1 import model_service_pb2
from maas.oip.v1 import grpc_service_pb2 as pb
from services.runtime.errors import InvalidInput, Unimplemented, shortened


class Administration(Protocol):
    """The calls of maas.model.v1.ModelService that change what is loaded, with their authorisation."""

    async def LoadModel(
        self, request: model_service_pb2.LoadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.LoadModelResponse: ...

    async def UnloadModel(
        self, request: model_service_pb2.UnloadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.UnloadModelResponse: ...


class Repository:
    """`admin` decides who may."""

    def __init__(self, admin: Administration) -> None:
        self._admin = admin

    async def load(
        self, request: pb.RepositoryModelLoadRequest, context: aio.ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        """What the store and its labels say should serve."""
        _check(request.repository_name, request.model_name, request.parameters, ())
        wish = model_service_pb2.LoadModelRequest(model=request.model_name)
        await self._admin.LoadModel(wish, context)
        return pb.RepositoryModelLoadResponse()

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest, context: aio.ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Every version of the model."""
        # No model here has dependents: unloading them, or not, is the same.
        _check(request.repository_name, request.model_name, request.parameters, ("unload_dependents",))
        wish = model_service_pb2.UnloadModelRequest(model=request.model_name)
        await self._admin.UnloadModel(wish, context)
        return pb.RepositoryModelUnloadResponse()


def check_repository(name: str) -> None:
    """Raises Unimplemented for a repository other than the one there is."""
    if name:
        raise Unimplemented("repository_name is not served: there is one repository; leave it empty")


def _check(repository: str, model: str, parameters: Mapping[str, Any], known: Collection[str]) -> None:
    check_repository(repository)
    if not model:
        raise InvalidInput("model_name", "is empty; name a model of RepositoryIndex")
    for name in parameters:
        if name not in known:
            raise Unimplemented(
                f"parameters[{shortened(name)}] is not served: models are loaded as published; leave it out"
            )
