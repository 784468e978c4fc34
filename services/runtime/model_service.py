"""maas.model.v1.ModelService over a host: what is served, hot loading, and a stream of changes."""

from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from grpc import aio

from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from services.runtime.errors import Unavailable
from services.runtime.follow import Follower
from services.runtime.states import Status


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """What is served and what could be; the door judges who may change it."""

    def __init__(self, follower: Follower) -> None:
        self._follower, self._host = follower, follower.host

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: aio.ServicerContext
    ) -> model_service_pb2.ListModelsResponse:
        found = [s for s in self._host.statuses() if not request.task or request.task in s.manifest.tasks]
        return model_service_pb2.ListModelsResponse(models=[self._model(status) for status in found])

    async def GetModel(
        self, request: model_service_pb2.GetModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.GetModelResponse:
        model = self._model(self._status(request.model, request.version), whole=True)
        return model_service_pb2.GetModelResponse(model=model)

    async def LoadModel(
        self, request: model_service_pb2.LoadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.LoadModelResponse:
        await self._follower.choose(request.model, request.version)
        model = self._model(self._status(request.model, ""), whole=True)
        return model_service_pb2.LoadModelResponse(model=model)

    async def UnloadModel(
        self, request: model_service_pb2.UnloadModelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.UnloadModelResponse:
        await self._follower.drop(request.model, request.version)
        return model_service_pb2.UnloadModelResponse()

    async def SetLabel(
        self, request: model_service_pb2.SetLabelRequest, context: aio.ServicerContext
    ) -> model_service_pb2.SetLabelResponse:
        await self._follower.label(request.model, request.label, request.version)
        model = self._model(self._status(request.model, ""), whole=True)
        return model_service_pb2.SetLabelResponse(model=model)

    async def WatchModels(
        self, request: model_service_pb2.WatchModelsRequest, context: aio.ServicerContext
    ) -> AsyncIterator[model_service_pb2.WatchModelsResponse]:
        with self._host.watch() as changes:
            for status in self._host.statuses():
                if request.model in ("", status.manifest.name):
                    yield model_service_pb2.WatchModelsResponse(model=self._model(status))
            yield model_service_pb2.WatchModelsResponse(snapshot_end=True)
            async for status in changes:
                if request.model in ("", status.manifest.name):
                    yield model_service_pb2.WatchModelsResponse(model=self._model(status))
        raise Unavailable("the server is draining; watch another replica", reason="DRAINING", retry_after_s=1.0)

    def _status(self, name: str, version: str) -> Status:
        number = self._host.number(name, version)
        return self._host.status(self._host.store.resolve(name, version if number is None else str(number)))

    def _model(self, status: Status, whole: bool = False) -> model_pb2.Model:
        manifest, store = status.manifest, self._host.store
        unversioned, labels = self._host.route(manifest.name).roles(manifest.version)
        model = model_pb2.Model(
            name=manifest.name,
            version=str(manifest.version),
            digest=manifest.digest,
            service=self._host.area,
            tasks=manifest.tasks,
            state=model_pb2.ModelState.Value(f"MODEL_STATE_{status.state}"),
            state_reason=status.reason,
            architecture=manifest.architecture,
            description=manifest.description,
            runner=manifest.runner,
            precision=manifest.precision,
            inputs=[model_pb2.TensorInfo(name=t.name, datatype=t.dtype, shape=t.shape) for t in manifest.inputs],
            outputs=[model_pb2.TensorInfo(name=t.name, datatype=t.dtype, shape=t.shape) for t in manifest.outputs],
            preprocessing=ParseDict(manifest.preprocessing, Struct()),
            limits=manifest.limits,
            chat_tells_time=manifest.tokenizer is not None and manifest.tokenizer.chat_tells_time,
            licence=manifest.licence,
            source=manifest.provenance.source,
            version_labels=labels,
            answers_unversioned=unversioned,
            default_for=sorted(task for task, name in self._host.defaults.items() if name == manifest.name),
        )
        if whole:
            model.card.CopyFrom(ParseDict(store.card(manifest), Struct()))
            names = _class_names(store.directory(manifest) / manifest.labels) if manifest.labels else []
            model.class_names.extend(names)
            model.label_count = len(names)
        return model


def _class_names(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
