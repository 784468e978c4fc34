"""Large batches over replicas: in parts, in order, one error, one version, one end for all."""

import asyncio
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from maas.vision.v1 import vision_service_pb2 as pb
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.errors import InvalidInput
from tests.suite.gateway_fakes import Behind, behind, gateway, model, outcome


def two() -> tuple[Behind, Behind]:
    return behind("vision"), behind("vision")


def pictures(count: int) -> pb.ClassifyRequest:
    """Each is as long as its place, counted from 1."""
    return pb.ClassifyRequest(images=[{"encoded": b"x" * n} for n in range(1, count + 1)], top_k=1)


def classify(channel: aio.Channel, count: int, **how: Any) -> Any:
    return VisionServiceStub(channel).Classify(pictures(count), **how)


def lengths(reply: pb.ClassifyResponse) -> list[int]:
    return [one.labels[0].index for one in reply.results]


def shares(*services: Behind) -> list[list[int]]:
    """How many pictures each call to each service had."""
    return [[len(request.images) for _, request in service.seen] for service in services]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_large_batch_is_shared_out_and_joined_in_order_and_remembered_whole():
    one, other = two()
    async with gateway(one, other, split_items=4) as (channel, _):
        first, reply = await outcome(classify(channel, 9))
        assert lengths(reply) == list(range(1, 10))
        assert shares(one, other) == [[4], [5]]
        assert (reply.served_by.digest, reply.timing.total_ms) == ("digest-lite-1", 1)
        assert (first, *await outcome(classify(channel, 9))) == ("miss", "hit-l1", reply)


@pytest.mark.parametrize(("count", "split"), [(4, 4), (64, 0)])
async def test_what_is_not_large_goes_whole(count: int, split: int):
    one, other = two()
    async with gateway(one, other, split_items=split) as (channel, _):
        assert lengths(await classify(channel, count)) == list(range(1, count + 1))
        assert shares(one, other) == [[count], []]


async def test_one_replica_gets_it_whole():
    service = behind("vision")
    async with gateway(service, split_items=4) as (channel, _):
        assert lengths(await classify(channel, 9)) == list(range(1, 10))
        assert shares(service) == [[9]]


async def test_an_error_of_a_part_is_the_error_of_the_whole_and_cancels_the_rest():
    slow, bad = two()
    slow.gate.clear()
    bad.failure = InvalidInput("images[2].encoded", "is no picture")
    async with gateway(slow, bad, split_items=4) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, 8)
        assert caught.value.code() is StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "images[6].encoded: is no picture"
        rich = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        bad_request = error_details_pb2.BadRequest()
        assert any(detail.Unpack(bad_request) for detail in status_pb2.Status.FromString(rich).details)
        assert bad_request.field_violations[0].field == "images[6].encoded"
        await until(lambda: slow.cancelled["Classify"])


async def test_a_caller_that_leaves_cancels_every_part():
    services = two()
    for service in services:
        service.gate.clear()
    async with gateway(*services, split_items=4) as (channel, _):
        call = classify(channel, 8)
        await until(lambda: all(service.calls["Classify"] for service in services))
        call.cancel()
        await until(lambda: all(service.cancelled["Classify"] for service in services))


async def test_every_part_has_the_caller_s_deadline():
    services = two()
    services[1].gate.clear()
    async with gateway(*services, split_items=4) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await classify(channel, 8, timeout=0.3)
        assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
        await until(lambda: services[1].cancelled["Classify"])
    assert all(0 < service.remaining[0] < 0.31 for service in services)


async def test_parts_of_different_versions_are_no_answer():
    """Neither has what the index knows: both choose, differently; the whole is then one replica's."""
    one, other = two()
    async with gateway(one, other, split_items=4) as (channel, _):
        await classify(channel, 1)
        one.swap(model("lite", 2, "vision", "vision.classify"), tell=False)
        other.swap(model("lite", 3, "vision", "vision.classify"), tell=False)
        reply = await classify(channel, 8)
        assert lengths(reply) == list(range(1, 9)) and reply.served_by.version in "23"
        assert sorted(map(max, shares(one, other))) == [4, 8]


async def test_a_replica_that_dies_leaves_its_part_to_another():
    one, other = two()
    async with gateway(one, other, split_items=4) as (channel, (first, _)):
        one.gate.clear()
        asked = asyncio.ensure_future(classify(channel, 8))
        await until(lambda: one.calls["Classify"])
        await first.kill()
        assert lengths(await asked) == list(range(1, 9))
        assert shares(other) == [[4, 4]]
