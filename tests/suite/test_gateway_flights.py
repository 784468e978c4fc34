"""One computation for all who wait for the same answer, and for one that ends soon."""

import asyncio

import grpc
import pytest
from grpc import aio

from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2_grpc
from tests.suite.cache_asks import classify, picture, until
from tests.suite.gateway_fakes import behind, gateway


async def test_calls_that_wait_for_the_same_answer_share_one_computation():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        calls = [asyncio.create_task(classify(channel)) for _ in range(10)]

        async def inside() -> bool:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
            found = await stub.GetStatus(gateway_service_pb2.GetStatusRequest())
            # All ten; who asks for this takes no place.
            return found.in_flight == 10 and service.calls["Classify"] == 1

        await until(inside)
        service.gate.set()
        outcomes = sorted([(await call)[0] for call in calls])
        assert outcomes == ["coalesced"] * 9 + ["miss"]
    assert service.calls["Classify"] == 1


async def test_a_leader_that_leaves_strands_nobody():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        leader = vision_service_pb2_grpc.VisionServiceStub(channel).Classify(picture())

        async def begun() -> bool:
            return service.calls["Classify"] == 1

        await until(begun)
        follower = asyncio.create_task(classify(channel))

        async def joined() -> bool:
            stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
            return (await stub.GetStatus(gateway_service_pb2.GetStatusRequest())).in_flight == 2

        await until(joined)
        leader.cancel()
        service.gate.set()
        assert (await follower)[0] == "coalesced"
    assert service.calls["Classify"] == 1


async def test_a_follower_with_more_time_than_the_leader_gets_its_answer():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        leader = asyncio.create_task(classify(channel, timeout=0.5))

        async def begun() -> bool:
            return service.calls["Classify"] == 1

        await until(begun)
        follower = asyncio.create_task(classify(channel, timeout=30))
        with pytest.raises(aio.AioRpcError) as caught:
            await leader
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        service.gate.set()
        assert (await follower)[0] in ("miss", "coalesced")


async def test_what_ends_soon_is_computed_anew_behind_the_caller(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.refresh.due", lambda *_: True)
    monkeypatch.setattr("gateway.pipeline.may_be_due", lambda *_: True)
    service = behind("vision")
    async with gateway(service) as (channel, _):
        how, first = await classify(channel)
        service.gate.clear()
        # The caller has the old answer at once, and so has the next: one computation is under way.
        assert [await classify(channel) for _ in range(3)] == [("hit-l1", first)] * 3
        service.gate.set()

        async def renewed() -> bool:
            outcome, reply = await classify(channel)
            return outcome == "hit-l1" and reply.timing.total_ms > 1 and reply.results == first.results

        await until(renewed)
    assert how == "miss"
