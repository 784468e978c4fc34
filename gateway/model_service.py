"""maas.model.v1.ModelService for the whole suite: asks the services that know a model, joins what they say."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.message import Message
from grpc import aio

from gateway import upstream
from gateway.backends import Backends
from gateway.relay import unreachable
from gateway.versions import ModelIndex
from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from services.runtime.errors import Code, ModelNotFound, ServiceError, Unavailable

# A service that hangs must not hide the others.
ANSWER_WITHIN_S = 5.0
_PATH = "/maas.model.v1.ModelService/"


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The models of all services; the door judges who may change them, as behind it every caller looks local."""

    def __init__(self, backends: Backends, index: ModelIndex) -> None:
        self._backends, self._index = backends, index

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: aio.ServicerContext
    ) -> model_service_pb2.ListModelsResponse:
        areas = list(self._backends)
        reply_type = model_service_pb2.ListModelsResponse
        answers = await self._ask(areas, "ListModels", request, reply_type, ANSWER_WITHIN_S)
        if all(isinstance(answer, ServiceError) for answer in answers):
            raise next(answer for answer in answers if isinstance(answer, ServiceError))
        reply = model_service_pb2.ListModelsResponse()
        for area, answer in zip(areas, answers, strict=True):
            if isinstance(answer, ServiceError):
                reply.unavailable[area] = answer.message
            else:
                reply.models.extend(answer.models)
        return reply

    async def GetModel(
        self, request: model_service_pb2.GetModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.GetModelResponse:
        areas, reply_type = self._areas(request.model), model_service_pb2.GetModelResponse
        answers = await self._ask(areas, "GetModel", request, reply_type, ANSWER_WITHIN_S)
        found = [answer.model for answer in answers if not isinstance(answer, ServiceError)]
        if not found:
            raise self._why(request.model, answers)
        return model_service_pb2.GetModelResponse(model=_joined(found))

    async def LoadModel(
        self, request: model_service_pb2.LoadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.LoadModelResponse:
        replies = await self._change(request, "LoadModel", model_service_pb2.LoadModelResponse)
        return model_service_pb2.LoadModelResponse(model=_joined([reply.model for reply in replies]))

    async def UnloadModel(
        self, request: model_service_pb2.UnloadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.UnloadModelResponse:
        await self._change(request, "UnloadModel", model_service_pb2.UnloadModelResponse)
        return model_service_pb2.UnloadModelResponse()

    async def SetLabel(
        self, request: model_service_pb2.SetLabelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.SetLabelResponse:
        replies = await self._change(request, "SetLabel", model_service_pb2.SetLabelResponse)
        return model_service_pb2.SetLabelResponse(model=_joined([reply.model for reply in replies]))

    async def WatchModels(
        self, request: model_service_pb2.WatchModelsRequest, context: aio.ServicerContext
    ) -> AsyncIterator[model_service_pb2.WatchModelsResponse]:
        with self._index.changes() as news:
            for model in self._index.models():
                if request.model in ("", model.name):
                    yield model_service_pb2.WatchModelsResponse(model=model)
            yield model_service_pb2.WatchModelsResponse(snapshot_end=True)
            async for model in news:
                if request.model in ("", model.name):
                    yield model_service_pb2.WatchModelsResponse(model=model)
        raise Unavailable("the gateway is draining; watch another", reason="DRAINING", retry_after_s=1.0)

    def _areas(self, model: str) -> list[str]:
        """The services that know the model; all of them if none is known to."""
        known = self._index.areas_of(model)
        return [area for area in self._backends if area in known] or list(self._backends)

    async def _ask(
        self, areas: Sequence[str], method: str, request: Message, reply: Any, within_s: float | None = None
    ) -> list[Any]:
        """Replies or ServiceErrors, in the order of `areas`."""
        body = request.SerializeToString()

        async def one(area: str) -> Any:
            try:
                async with asyncio.timeout(within_s):
                    answer = await upstream.call(self._backends[area], _PATH + method, body)
                return reply.FromString(answer.body)
            except TimeoutError:
                return unreachable(area, f"no answer within {within_s:g} s")
            except ServiceError as error:
                return error

        return list(await asyncio.gather(*(one(area) for area in areas)))

    async def _change(self, request: Any, method: str, reply: Any) -> list[Any]:
        """Every service that can, does; raises at the first that knows the model and fails, or if none can.

        One after the other, tokenization last: it reads the least, and must not move to what others cannot load.
        """
        answers: list[Any] = []
        for area in reversed(self._areas(request.model)):
            (answer,) = await self._ask([area], method, request, reply)
            answers.insert(0, answer)
            if isinstance(answer, ServiceError) and answer.code not in _NOT_MINE:
                raise answer
        done = [answer for answer in answers if not isinstance(answer, ServiceError)]
        if not done:
            raise self._why(request.model, answers)
        return done

    def _why(self, model: str, answers: Sequence[ServiceError]) -> ServiceError:
        """Unknown everywhere is NOT_FOUND; otherwise what kept a service from saying so."""
        if all(answer.code is Code.NOT_FOUND for answer in answers) and model not in self._index.names():
            return ModelNotFound("model", model, self._index.names())
        return next((a for a in answers if a.code is not Code.NOT_FOUND), answers[0])


# What a service says of a model that is another's business.
_NOT_MINE = (Code.NOT_FOUND, Code.INVALID_ARGUMENT)


def _joined(models: Sequence[model_pb2.Model]) -> model_pb2.Model:
    """One model of several services: the last one's view, a default wherever it is one."""
    joined = model_pb2.Model()
    joined.CopyFrom(models[-1])
    del joined.default_for[:]
    joined.default_for.extend(sorted({task for model in models for task in model.default_for}))
    joined.service = ",".join(model.service for model in models)
    return joined
