"""Honest stand-ins for the four services: real servers, real contracts, answers that can be told in advance."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc import aio

from gateway.__main__ import build
from gateway.settings import GatewaySettings
from maas.common.v1 import served_pb2
from maas.generation.v1 import generation_pb2, generation_service_pb2, generation_service_pb2_grpc
from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from maas.oip.v1 import grpc_service_pb2, grpc_service_pb2_grpc
from maas.sequence.v1 import sequence_service_pb2, sequence_service_pb2_grpc
from maas.tokenization.v1 import tokenization_pb2, tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.context import current
from services.runtime.errors import ModelNotFound
from services.runtime.floor import Floor
from services.runtime.settings import ServerSettings
from tests.harness import running
from tests.valkey import PATIENT


def model(
    name: str, version: int, service: str, task: str, digest: str = "", labels: str = "", unversioned: bool = False
) -> model_pb2.Model:
    """A serving model that is the default of its task; `labels` are separated by spaces."""
    return model_pb2.Model(
        name=name,
        version=str(version),
        digest=digest or f"digest-{name}-{version}",
        service=service,
        tasks=[task],
        state=model_pb2.MODEL_STATE_SERVING,
        default_for=[task],
        version_labels=labels.split(),
        answers_unversioned=unversioned,
    )


@dataclass
class Behind:
    """What a fake service is made of and what it saw."""

    area: str
    models: list[model_pb2.Model]
    calls: Counter[str] = field(default_factory=Counter)
    seen: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    cancelled: Counter[str] = field(default_factory=Counter)
    # Calls wait for it; set = they run through.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    # So many calls of a method, or messages of a stream, do not.
    ungated: int = 0
    failure: Exception | None = None
    # Calls that go well before `failure` strikes.
    fail_after: int = 0
    # A stream of messages ends well after the first, whatever is still being sent.
    content_with_one: bool = False
    # By which it believes a gateway's word for a tenant.
    mesh_key: str | None = None
    news: list["asyncio.Queue[model_pb2.Model | None]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def identity(self) -> dict[str, Any]:
        """Settings of its own; what is not set is the environment's."""
        return {} if self.mesh_key is None else {"mesh_key": self.mesh_key}

    async def enter(self, method: str, request: Any) -> None:
        """Notes a call, waits for the gate, fails if told to."""
        self.calls[method] += 1
        self.seen.append((method, request))
        self.metadata.append(dict(current().metadata))
        self.remaining.append(current().remaining_s())
        try:
            if self.calls[method] > self.ungated:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled[method] += 1
            raise
        if self.failure is not None and self.calls[method] > self.fail_after:
            raise self.failure

    def served(self, request: Any) -> served_pb2.ServedBy:
        """The model that answers; NOT_FOUND for one that is not served, as a real service does."""
        for one in sorted(self.models, key=lambda one: not one.answers_unversioned):
            fits = request.model in ("", one.name) and request.version in ("", one.version, *one.version_labels)
            if fits and one.state == model_pb2.MODEL_STATE_SERVING:
                return served_pb2.ServedBy(model=one.name, version=one.version, digest=one.digest)
        raise ModelNotFound("model", f"{request.model}:{request.version}", [one.name for one in self.models])

    def swap(self, *models: model_pb2.Model, tell: bool = True) -> None:
        """Serves other models from now on."""
        for old in self.models:
            gone = model_pb2.Model()
            gone.CopyFrom(old)
            gone.state = model_pb2.MODEL_STATE_AVAILABLE
            self._tell(gone, tell)
        self.models = list(models)
        for new in models:
            self._tell(new, tell)

    def _tell(self, changed: model_pb2.Model, tell: bool) -> None:
        for queue in self.news if tell else ():
            queue.put_nowait(changed)


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def ListModels(self, request: Any, context: Any) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(models=self.behind.models)

    async def GetModel(self, request: Any, context: Any) -> model_service_pb2.GetModelResponse:
        for one in self.behind.models:
            if one.name == request.model:
                return model_service_pb2.GetModelResponse(model=one)
        raise ModelNotFound("model", request.model, [one.name for one in self.behind.models])

    async def LoadModel(self, request: Any, context: Any) -> model_service_pb2.LoadModelResponse:
        self.behind.calls["LoadModel"] += 1
        return model_service_pb2.LoadModelResponse(model=self.behind.models[0])

    async def SetLabel(self, request: Any, context: Any) -> model_service_pb2.SetLabelResponse:
        await self.behind.enter("SetLabel", request)
        return model_service_pb2.SetLabelResponse(model=self.behind.models[0])

    async def UnloadModel(self, request: Any, context: Any) -> model_service_pb2.UnloadModelResponse:
        self.behind.calls["UnloadModel"] += 1
        return model_service_pb2.UnloadModelResponse()

    async def WatchModels(
        self, request: Any, context: Any
    ) -> AsyncIterator[model_service_pb2.WatchModelsResponse]:
        queue: asyncio.Queue[model_pb2.Model | None] = asyncio.Queue()
        self.behind.news.append(queue)
        try:
            for one in list(self.behind.models):
                yield model_service_pb2.WatchModelsResponse(model=one)
            yield model_service_pb2.WatchModelsResponse(snapshot_end=True)
            while (changed := await queue.get()) is not None:
                yield model_service_pb2.WatchModelsResponse(model=changed)
        finally:
            self.behind.news.remove(queue)


class Vision(vision_service_pb2_grpc.VisionServiceServicer):
    """The label of a picture is its length."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def Classify(self, request: Any, context: Any) -> vision_service_pb2.ClassifyResponse:
        await self.behind.enter("Classify", request)
        current().trailing.append(("x-maas-fake", "carried"))
        results = [
            vision_pb2.Classification(labels=[vision_pb2.Label(index=len(image.encoded), score=1)])
            for image in request.images
        ]
        timing = served_pb2.Timing(total_ms=self.behind.calls["Classify"])
        return vision_service_pb2.ClassifyResponse(
            results=results, served_by=self.behind.served(request), timing=timing
        )


class Tokenization(tokenization_service_pb2_grpc.TokenizationServiceServicer):
    """The ids of a text are its bytes."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def Tokenize(self, request: Any, context: Any) -> tokenization_service_pb2.TokenizeResponse:
        await self.behind.enter("Tokenize", request)
        encodings = [tokenization_pb2.Encoding(ids=text.encode()) for text in request.texts]
        return tokenization_service_pb2.TokenizeResponse(
            encodings=encodings, served_by=self.behind.served(request)
        )

    async def RenderChat(self, request: Any, context: Any) -> tokenization_service_pb2.RenderChatResponse:
        await self.behind.enter("RenderChat", request)
        text = "".join(message.content for message in request.messages)
        return tokenization_service_pb2.RenderChatResponse(text=text, served_by=self.behind.served(request))

    async def DetokenizeStream(
        self, requests: Any, context: Any
    ) -> AsyncIterator[tokenization_service_pb2.DetokenizeStreamResponse]:
        async for request in requests:
            await self.behind.enter("DetokenizeStream", request)
            yield tokenization_service_pb2.DetokenizeStreamResponse(text_delta=bytes(request.ids).decode())
            if self.behind.content_with_one:
                return
        yield tokenization_service_pb2.DetokenizeStreamResponse(finished=True)


class Sequences(sequence_service_pb2_grpc.SequenceServiceServicer):
    """Upper case is the transduction; a session counts."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def Transduce(self, request: Any, context: Any) -> sequence_service_pb2.TransduceResponse:
        await self.behind.enter("Transduce", request)
        response = sequence_service_pb2.TransduceResponse(served_by=self.behind.served(request))
        for text in request.texts:
            response.results.add(text=text.upper())
        return response

    async def StepSession(self, request: Any, context: Any) -> sequence_service_pb2.StepSessionResponse:
        await self.behind.enter("StepSession", request)
        response = sequence_service_pb2.StepSessionResponse()
        response.output.step = self.behind.calls["StepSession"]
        response.status.session_id = request.session_id or request.open.session_id
        return response

    async def RunSession(
        self, requests: Any, context: Any
    ) -> AsyncIterator[sequence_service_pb2.RunSessionResponse]:
        async for request in requests:
            if request.HasField("open"):
                await self.behind.enter("RunSession", sequence_service_pb2.StepSessionRequest(open=request.open))
                yield sequence_service_pb2.RunSessionResponse(opened={"session_id": request.open.session_id})
            else:
                yield sequence_service_pb2.RunSessionResponse(output={"step": request.step.step})


class Generation(generation_service_pb2_grpc.GenerationServiceServicer):
    """The prompt, backwards, a letter a token."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind
        self.streams: dict[str, Any] = {}

    async def Generate(self, request: Any, context: Any) -> generation_service_pb2.GenerateResponse:
        await self.behind.enter("Generate", request)
        text = request.text[::-1]
        completion = generation_pb2.Completion(
            text=text, token_ids=text.encode(), finish_reason=generation_pb2.FINISH_REASON_EOS
        )
        return generation_service_pb2.GenerateResponse(
            completions=[completion], usage=self._usage(text), served_by=self.behind.served(request)
        )

    async def GenerateStream(
        self, request: Any, context: Any
    ) -> AsyncIterator[generation_service_pb2.GenerateStreamResponse]:
        stream_id = request.resume.stream_id or f"stream-{len(self.streams)}"
        asked = self.streams.setdefault(stream_id, request)
        text = asked.text[::-1]
        for number, letter in enumerate(text, 1):
            if number <= request.resume.after_sequence_number:
                continue
            await self.behind.enter("GenerateStream", request)
            message = generation_service_pb2.GenerateStreamResponse(
                sequence_number=number, text_delta=letter, token_ids=letter.encode()
            )
            if number == 1:
                message.stream_id = stream_id
                message.served_by.CopyFrom(self.behind.served(asked))
            if number == len(text):
                message.finish_reason = generation_pb2.FINISH_REASON_EOS
                message.usage.CopyFrom(self._usage(text))
            yield message

    def _usage(self, text: str) -> generation_pb2.Usage:
        return generation_pb2.Usage(prompt_tokens=len(text), completion_tokens=len(text))


class Oip(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Echoes."""

    def __init__(self, behind: Behind) -> None:
        self.behind = behind

    async def ServerReady(self, request: Any, context: Any) -> grpc_service_pb2.ServerReadyResponse:
        return grpc_service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Any) -> grpc_service_pb2.ModelReadyResponse:
        return grpc_service_pb2.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: Any, context: Any) -> grpc_service_pb2.ModelInferResponse:
        self.behind.calls["ModelInfer"] += 1
        return grpc_service_pb2.ModelInferResponse(
            model_name=request.model_name, id=request.id, raw_output_contents=request.raw_input_contents
        )

    async def ModelConfig(self, request: Any, context: Any) -> grpc_service_pb2.ModelConfigResponse:
        return grpc_service_pb2.ModelConfigResponse(config={"name": request.name})

    async def ModelStatistics(self, request: Any, context: Any) -> grpc_service_pb2.ModelStatisticsResponse:
        counted = [{"name": one.name, "version": one.version, "inference_count": 1} for one in self.behind.models]
        return grpc_service_pb2.ModelStatisticsResponse(model_stats=counted)

    async def RepositoryIndex(self, request: Any, context: Any) -> grpc_service_pb2.RepositoryIndexResponse:
        found = [{"name": one.name, "version": one.version, "state": "READY"} for one in self.behind.models]
        return grpc_service_pb2.RepositoryIndexResponse(models=found)

    async def ModelStreamInfer(
        self, requests: Any, context: Any
    ) -> AsyncIterator[grpc_service_pb2.ModelStreamInferResponse]:
        async for request in requests:
            await self.behind.enter("ModelStreamInfer", request)
            if request.id == "wrong":
                yield grpc_service_pb2.ModelStreamInferResponse(error_message="wrong")
            else:
                yield grpc_service_pb2.ModelStreamInferResponse(
                    infer_response=await self.ModelInfer(request, context)
                )


_ADD: dict[str, tuple[Callable[..., None], Callable[[Behind], Any]]] = {
    "vision": (vision_service_pb2_grpc.add_VisionServiceServicer_to_server, Vision),
    "tokenization": (tokenization_service_pb2_grpc.add_TokenizationServiceServicer_to_server, Tokenization),
    "sequence": (sequence_service_pb2_grpc.add_SequenceServiceServicer_to_server, Sequences),
    "generation": (generation_service_pb2_grpc.add_GenerationServiceServicer_to_server, Generation),
}

DEFAULTS = {
    "vision": lambda: [model("lite", 1, "vision", "vision.classify")],
    "tokenization": lambda: [model("bytes", 1, "tokenization", "tokenization.tokenize")],
    "sequence": lambda: [model("upper", 1, "sequence", "sequence.transduce")],
    "generation": lambda: [model("reverse", 1, "generation", "generation.generate")],
}


def behind(area: str) -> Behind:
    """A service with its default model."""
    return Behind(area, DEFAULTS[area]())


# Tests read them.
EVERY_LINE: Any = {"access_log_per_s": 1_000_000}


class Running:
    """One running fake process."""

    def __init__(self, what: Behind, floor: Floor[ServerSettings], port: int, host: str) -> None:
        self.what, self.floor, self.port, self.host = what, floor, port, host

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def kill(self) -> None:
        """Gone at once: connections cut, port free."""
        await self.floor.server.stop(None)

    async def retire(self) -> None:
        """Stopped by the written order, with a moment of lame duck."""
        self.floor.settings = self.floor.settings.model_copy(update={"lame_duck_s": 0.2, "drain_s": 10})
        for queue in self.what.news:
            queue.put_nowait(None)
        await self.floor.close()

    @classmethod
    async def start(cls, what: Behind, port: int = 0, host: str = "127.0.0.1") -> "Running":
        floor = Floor(
            ServerSettings(**EVERY_LINE, host=host, port=port, lame_duck_s=0, drain_s=0.2, **what.identity)
        )
        add, servicer = _ADD[what.area]
        floor.add(add, servicer(what))
        floor.add(model_service_pb2_grpc.add_ModelServiceServicer_to_server, Models(what), admitted=False)
        if what.area in ("vision", "sequence"):
            floor.add(grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server, Oip(what))
        bound = await floor.start()
        return cls(what, floor, bound, host)


@asynccontextmanager
async def started(*services: Behind) -> AsyncIterator[list[Running]]:
    """Fake services on free ports."""
    found = [await Running.start(service) for service in services]
    try:
        yield found
    finally:
        for one in found:
            await one.kill()


def settings(addresses: dict[str, str], **more: Any) -> GatewaySettings:
    """Of a gateway under test: services that are not named have no address, and usage is not kept in Redis."""
    nowhere = {f"{area}_address": "" for area in DEFAULTS}
    chosen = nowhere | {f"{area}_address": address for area, address in addresses.items()}
    told: dict[str, Any] = {
        "port": 0,
        "lame_duck_s": 0,
        "drain_s": 0.2,
        "start_wait_s": 5,
        "usage": False,
        **PATIENT,
        **EVERY_LINE,
    }
    return GatewaySettings(**{**told, **chosen, **more})


@asynccontextmanager
async def gateway(*services: Behind, **more: Any) -> AsyncIterator[tuple[aio.Channel, list[Running]]]:
    """Fake services and a gateway in front of them: its channel, and the processes behind."""
    async with started(*services) as found:
        addresses: dict[str, str] = {}
        for service, one in zip(services, found, strict=True):
            addresses[service.area] = ",".join(filter(None, (addresses.get(service.area), one.address)))
        async with running(settings(addresses, **more), build) as (channel, _):
            yield channel, found


async def outcome(call: Any) -> tuple[str, Any]:
    """The reply of a unary call and what the cache said of it."""
    reply = await call
    return dict(await call.initial_metadata())["x-maas-cache"], reply
