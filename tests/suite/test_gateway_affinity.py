"""What goes on from something goes where that is; what a replica cannot take goes on elsewhere."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from grpc import aio

from gateway.affinity import FEW
from maas.generation.v1.generation_service_pb2 import GenerateRequest, GenerateStreamRequest
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.oip.v1.grpc_service_pb2 import ModelInferRequest
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.sequence.v1.sequence_service_pb2 import RunSessionRequest, StepSessionRequest
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from tests.suite.gateway_fakes import Behind, behind, gateway

FRESH = (("cache-control", "no-store"),)
STEP = {"step": 1, "series": {"values": [0.0]}}


def some(area: str, count: int) -> list[Behind]:
    return [behind(area) for _ in range(count)]


def sessions_of(service: Behind) -> set[str]:
    """The sessions that a replica heard of."""
    return {request.session_id or request.open.session_id for _, request in service.seen}


async def step(channel: aio.Channel, **fields: Any) -> str:
    """One step; the id that the session has at the service."""
    return (
        await SequenceServiceStub(channel).StepSession(StepSessionRequest(step=STEP, **fields))
    ).status.session_id


async def run(channel: aio.Channel, *messages: dict[str, Any]) -> str:
    """A stream; the id that the session has at the service."""
    call = SequenceServiceStub(channel).RunSession(iter([RunSessionRequest(**one) for one in messages]))
    replies = [reply async for reply in call]
    return str(replies[0].opened.session_id)


async def test_a_session_stays_at_its_replica_by_single_steps_and_streams():
    services = some("sequence", 3)
    async with gateway(*services) as (channel, _):
        for name in map(str, range(24)):
            assert await step(channel, open={"session_id": name}) == name
            await step(channel, session_id=name)
            assert await run(channel, {"open": {"session_id": name, "resume": True}}, {"step": STEP}) == name
            assert await step(channel, session_id=name, close=True) == name
    found = [sessions_of(service) for service in services]
    assert sum(map(len, found)) == 24 and max(map(len, found)) < 24


@pytest.mark.parametrize("form", [step, run])
async def test_a_session_without_a_name_is_opened_where_its_steps_will_go(form: Callable[..., Any]):
    services = some("sequence", 3)
    async with gateway(*services) as (channel, _):
        given = {"open": {}}
        names = [await (form(channel, **given) if form is step else form(channel, given)) for _ in range(12)]
        for name in names:
            await step(channel, session_id=name)
    assert len(set(names)) == 12 and all(len(name) > 20 for name in names)
    assert sum(len(sessions_of(service)) for service in services) == 12


async def test_a_session_whose_replica_is_gone_goes_on_at_one_other():
    services = some("sequence", 3)
    async with gateway(*services) as (channel, found):
        await step(channel, open={"session_id": "a"})
        at = next(place for place, service in enumerate(services) if service.seen)
        await found[at].retire()
        for _ in range(4):
            await step(channel, session_id="a")
    assert sorted(len(service.seen) for service in services) == [0, 1, 4]


async def test_a_stream_of_a_session_may_end_before_it_began():
    async with gateway(*some("sequence", 2)) as (channel, _):
        assert [reply async for reply in SequenceServiceStub(channel).RunSession(iter([]))] == []
        call = SequenceServiceStub(channel).RunSession()
        await asyncio.sleep(0.05)
        call.cancel()
        assert await call.code() is not None


async def test_a_sequence_of_the_open_inference_protocol_stays_too():
    services = some("sequence", 3)
    async with gateway(*services) as (channel, _):
        for number in range(1, 9):
            for given in ({"int64_param": number}, {"string_param": f"s{number}"}):
                request = ModelInferRequest(model_name="upper", parameters={"sequence_id": given})
                for _ in range(3):
                    await GRPCInferenceServiceStub(channel).ModelInfer(request)
    counts = [service.calls["ModelInfer"] for service in services]
    assert sum(counts) == 48 and not any(count % 3 for count in counts) and max(counts) < 48


async def test_prompts_of_one_beginning_meet_by_call_and_stream():
    services = some("generation", 3)
    async with gateway(*services) as (channel, _):
        stub = GenerationServiceStub(channel)
        for beginning in "abcdefghijklmnop":
            text = 256 * beginning
            await stub.Generate(GenerateRequest(text=text + "1"), metadata=FRESH)
            await stub.Generate(GenerateRequest(text=text + "2", sampling={"temperature": 1}))
            stream = stub.GenerateStream(GenerateStreamRequest(text=text + "3"), metadata=FRESH)
            assert await stream.read() is not aio.EOF
            stream.cancel()
    met = [Counter(request.text[0] for _, request in service.seen) for service in services]
    assert sum(map(len, met)) == 16 and max(map(len, met)) < 16


async def test_a_popular_prompt_fills_its_replica_no_more_than_a_little_over_its_share():
    services = some("generation", 3)
    for service in services:
        service.gate.clear()
    async with gateway(*services) as (channel, _):
        stub = GenerationServiceStub(channel)
        request = GenerateRequest(text="the same", sampling={"temperature": 1})
        calls = [asyncio.ensure_future(stub.Generate(request)) for _ in range(48)]
        async with asyncio.timeout(10):
            while sum(service.calls["Generate"] for service in services) < 48:
                await asyncio.sleep(0.01)
        loads = sorted(service.calls["Generate"] for service in services)
        assert loads[-1] == 20 and loads[0] >= FEW
        for service in services:
            service.gate.set()
        await asyncio.gather(*calls)
