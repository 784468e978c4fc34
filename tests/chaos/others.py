"""What is neither one question with one answer nor a stream that a replica may break for long."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio

from maas.admin.v1 import admin_service_pb2 as admin
from maas.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.model.v1 import model_service_pb2 as models
from maas.model.v1.model_service_pb2_grpc import ModelServiceStub
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub

DEADLINE_S = 20.0
SPARE = "mistral-spm"  # nobody asks it


@dataclass
class Others:
    """Over one channel; `administers`: its caller may change what runs."""

    channel: aio.Channel
    areas: Sequence[str]
    draw: random.Random
    administers: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)

    async def learn(self) -> None:
        """Which models there are."""
        self.digests = await self._listed()

    def kinds(self) -> Sequence[Callable[[], Awaitable[str]]]:
        return [self.look, self.look, self.watch, *([self.administer] if self.administers else [])]

    async def look(self) -> str:
        """What changes with the moment: it is told, and whole."""
        asked = self.draw.choice((self._models, self._model, self._status, self._usage, self._oip))
        return await asked()

    async def _models(self) -> str:
        found = await self._listed()
        assert found == self.digests, f"{found} instead of {self.digests}"
        return "answered"

    async def _model(self) -> str:
        name = self.draw.choice(sorted(self.digests))
        stub = ModelServiceStub(self.channel)
        reply = await stub.GetModel(models.GetModelRequest(model=name), timeout=DEADLINE_S)
        assert (reply.model.name, reply.model.digest) == (name, self.digests[name]), f"{reply}"
        return "answered"

    async def _listed(self) -> Mapping[str, str]:
        """The digests of all models."""
        stub = ModelServiceStub(self.channel)
        reply = await stub.ListModels(models.ListModelsRequest(), timeout=DEADLINE_S)
        assert not set(reply.unavailable) & set(self.areas), f"{reply.unavailable}"
        return {one.name: one.digest for one in reply.models}

    async def _status(self) -> str:
        reply = await GatewayServiceStub(self.channel).GetStatus(gateway.GetStatusRequest(), timeout=DEADLINE_S)
        told = {one.service for one in reply.backends}
        assert told >= set(self.areas), f"{told}"
        return "answered"

    async def _usage(self) -> str:
        stub = GatewayServiceStub(self.channel)
        return await _unless_redis(stub.GetUsage(gateway.GetUsageRequest(), timeout=DEADLINE_S))

    async def _oip(self) -> str:
        stub = GRPCInferenceServiceStub(self.channel)
        if {"vision", "sequence"} <= set(self.areas):
            assert (await stub.ServerReady(oip.ServerReadyRequest(), timeout=DEADLINE_S)).ready
            await stub.ModelStatistics(oip.ModelStatisticsRequest(), timeout=DEADLINE_S)
        index = await stub.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=DEADLINE_S)
        assert {one.name for one in index.models} <= self.digests.keys()
        return "answered"

    async def watch(self) -> str:
        """The present, and gone again."""
        call = ModelServiceStub(self.channel).WatchModels(models.WatchModelsRequest(), timeout=DEADLINE_S)
        found = set()
        try:
            async for change in call:
                if change.snapshot_end:
                    break
                found.add(change.model.name)
        finally:
            call.cancel()
        assert found <= self.digests.keys(), f"{sorted(found)}"
        return "answered"

    async def administer(self) -> str:
        asked = (self._label, self._load, self._unload, self._level, self._flush)
        return await self.draw.choice(asked)()

    async def _label(self) -> str:
        request = models.SetLabelRequest(model="gpt2-bpe", label="tried", version="1")
        await ModelServiceStub(self.channel).SetLabel(request, timeout=DEADLINE_S)
        return "answered"

    async def _load(self) -> str:
        request = models.LoadModelRequest(model=SPARE)
        reply = await ModelServiceStub(self.channel).LoadModel(request, timeout=DEADLINE_S)
        assert reply.model.name == SPARE
        return "answered"

    async def _unload(self) -> str:
        try:
            request = models.UnloadModelRequest(model=SPARE)
            await ModelServiceStub(self.channel).UnloadModel(request, timeout=DEADLINE_S)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:
                raise
            return "refused"
        return "answered"

    async def _level(self) -> str:
        stub = AdminServiceStub(self.channel)
        request = admin.SetLogLevelRequest(logger="maas.call", level=admin.LOG_LEVEL_WARNING, for_s=5)
        await stub.SetLogLevel(request, timeout=DEADLINE_S)
        reply = await stub.GetLogLevel(admin.GetLogLevelRequest(logger="maas.call"), timeout=DEADLINE_S)
        assert [one.logger for one in reply.levels] == ["maas.call"], f"{reply}"
        return "answered"

    async def _flush(self) -> str:
        stub = GatewayServiceStub(self.channel)
        return await _unless_redis(stub.FlushCache(gateway.FlushCacheRequest(model="g2p-en"), timeout=DEADLINE_S))


async def _unless_redis(call: Any) -> str:
    """What only Redis knows, or keeps, may be refused without it."""
    try:
        await call
    except aio.AioRpcError as error:
        if error.code() is not StatusCode.UNAVAILABLE or "Redis" not in str(error.details()):
            raise
        return "refused"
    return "answered"
