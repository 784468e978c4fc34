"""Keeps the model index in step with a service by its WatchModels stream. Decides nothing."""

import asyncio
from collections.abc import AsyncIterable

from grpc import StatusCode, aio

from gateway.backends import Backend
from gateway.relay import Metadata
from gateway.versions import ModelIndex
from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from services.runtime.errors import Unavailable

PAUSE_S = 0.1


async def follow(backend: Backend, index: ModelIndex, refresh_s: float, vouching: Metadata = ()) -> None:
    """Until cancelled. What was learned stays while the service is away: its models have not changed meanwhile.

    The stream is begun anew every `refresh_s`, maybe at another replica: none is believed alone for ever.
    """
    while True:
        await backend.up()
        try:
            await _watch(backend, index, refresh_s, vouching)
        except Unavailable:
            await asyncio.sleep(PAUSE_S)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.DEADLINE_EXCEEDED:
                await asyncio.sleep(PAUSE_S)


async def _watch(backend: Backend, index: ModelIndex, refresh_s: float, vouching: Metadata) -> None:
    # Held: a channel that closes under a call would cancel this task.
    with backend.pick().held() as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        asked = model_service_pb2.WatchModelsRequest()
        await _learn(stub.WatchModels(asked, timeout=refresh_s, metadata=vouching), backend, index)


async def _learn(
    stream: AsyncIterable[model_service_pb2.WatchModelsResponse], backend: Backend, index: ModelIndex
) -> None:
    """Takes the whole list when it is complete, then each change."""
    present: list[model_pb2.Model] | None = []
    async for news in stream:
        if present is None:
            index.update(backend.name, news.model)
            continue
        if news.HasField("model"):
            present.append(news.model)
        if news.snapshot_end:
            index.replace(backend.name, present)
            present = None
