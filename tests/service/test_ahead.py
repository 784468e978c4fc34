"""Initial metadata of a unary reply: it arrives, by itself and in no batch of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc._cython import cygrpc

from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime import ahead
from services.runtime.context import current
from services.runtime.errors import NotFound
from services.runtime.floor import Floor
from services.runtime.settings import ServerSettings
from tests.harness import running


class Announcing(pb_grpc.TokenizationServiceServicer):
    """Says the model's name ahead; refuses the one that is called `missing` after it."""

    async def Tokenize(self, request: pb.TokenizeRequest, context: aio.ServicerContext) -> pb.TokenizeResponse:
        if request.model:
            current().initial.append(("x-model", request.model))
        if request.model == "missing":
            raise NotFound("model", "missing", ["a"])
        return pb.TokenizeResponse(tokenizer_digest="seen")


@asynccontextmanager
async def server() -> AsyncIterator[pb_grpc.TokenizationServiceStub]:
    async def build(floor: Floor[ServerSettings]) -> None:
        floor.add(pb_grpc.add_TokenizationServiceServicer_to_server, Announcing())

    settings = ServerSettings(store=Path("unused"), lame_duck_s=0, transport="grpc")
    async with running(settings, build) as (channel, _):
        yield pb_grpc.TokenizationServiceStub(channel)


async def told(stub: pb_grpc.TokenizationServiceStub, model: str) -> dict[str, str]:
    call = stub.Tokenize(pb.TokenizeRequest(model=model, texts=["a"]))
    assert (await call).tokenizer_digest == "seen"
    return dict(await call.initial_metadata())


async def test_it_travels_in_the_batch_that_ends_the_call(monkeypatch: pytest.MonkeyPatch):
    async with server() as stub:
        batches, execute = [], cygrpc.execute_batch

        def noted(call: Any, operations: tuple[Any, ...], loop: Any) -> Any:
            batches.append([type(one).__name__.removesuffix("Operation") for one in operations])
            return execute(call, operations, loop)

        monkeypatch.setattr(cygrpc, "execute_batch", noted)
        assert await told(stub, "one") == {"x-model": "one"}
    assert ["SendInitialMetadata", "SendMessage", "SendStatusFromServer"] in batches
    assert ["SendInitialMetadata"] not in batches


async def test_each_reply_has_its_own_and_an_error_none():
    async with server() as stub:
        for model in ("one", "two", ""):
            assert await told(stub, model) == ({"x-model": model} if model else {})
        call = stub.Tokenize(pb.TokenizeRequest(model="missing", texts=["a"]))
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "x-model" not in dict(caught.value.initial_metadata())


async def test_where_batches_cannot_be_joined_it_is_sent_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ahead, "join", lambda: False)
    async with server() as stub:
        assert await told(stub, "one") == {"x-model": "one"}


def test_joining_twice_wraps_once():
    assert ahead.join()
    once = cygrpc.execute_batch
    assert ahead.join()
    assert cygrpc.execute_batch is once
