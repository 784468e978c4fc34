"""Many calls in one: order, partial results, fail fast, bounds and time."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from maas.gateway.v1 import gateway_pb2, gateway_service_pb2, gateway_service_pb2_grpc
from services.runtime.errors import Overloaded
from tests.suite.gateway_fakes import Behind, behind, gateway

AREAS = ("tokenization", "vision", "sequence", "generation")


def calls() -> list[gateway_pb2.Call]:
    """One for each service."""
    return [
        gateway_pb2.Call(id="t", tokenize={"texts": ["ab"]}),
        gateway_pb2.Call(id="v", classify_image={"images": [{"encoded": b"1234"}]}),
        gateway_pb2.Call(id="s", transduce={"texts": ["ab"]}),
        gateway_pb2.Call(id="g", generate={"text": "ab"}),
    ]


def pictures(count: int) -> list[gateway_pb2.Call]:
    return [
        gateway_pb2.Call(id=str(n), classify_image={"images": [{"encoded": b"x" * n}]})
        for n in range(1, count + 1)
    ]


async def fan_out(channel: aio.Channel, wanted: list[gateway_pb2.Call], **more: Any) -> Any:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    timeout = more.pop("timeout", None)
    return (await stub.FanOut(gateway_service_pb2.FanOutRequest(calls=wanted, **more), timeout=timeout)).results


async def inside(service: Behind, count: int) -> None:
    async with asyncio.timeout(10):
        while sum(service.calls.values()) < count:
            await asyncio.sleep(0.01)


async def test_every_service_answers_in_the_order_of_the_calls():
    async with gateway(*map(behind, AREAS)) as (channel, _):
        found = await fan_out(channel, calls())
        assert [result.id for result in found] == ["t", "v", "s", "g"]
        assert [result.WhichOneof("reply") for result in found] == [
            "tokenize",
            "classify_image",
            "transduce",
            "generate",
        ]
        assert found[2].transduce.results[0].text == "AB"
        assert [result.cache for result in found] == ["miss"] * 4
        assert [result.cache for result in await fan_out(channel, calls())] == ["hit-l1"] * 4


async def test_a_missing_service_is_one_status_among_replies():
    async with gateway(*map(behind, ("tokenization", "vision", "sequence"))) as (channel, _):
        found = await fan_out(channel, calls())
        assert [result.WhichOneof("reply") for result in found][:3] == ["tokenize", "classify_image", "transduce"]
        status = found[3].status
        assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        kinds = {packed.TypeName() for packed in status.details}
        assert "google.rpc.RetryInfo" in kinds


async def test_the_stream_gives_each_as_it_finishes():
    services = {area: behind(area) for area in AREAS}
    services["tokenization"].gate.clear()
    async with gateway(*services.values()) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        stream = stub.FanOutStream(gateway_service_pb2.FanOutStreamRequest(calls=calls()))
        first = {(await stream.read()).result.id for _ in range(3)}
        assert first == {"v", "s", "g"}
        services["tokenization"].gate.set()
        assert (await stream.read()).result.id == "t"
        assert await stream.read() is aio.EOF


async def test_fail_fast_ends_with_that_status_and_cancels_the_rest():
    slow, bad = behind("tokenization"), behind("vision")
    slow.gate.clear()
    bad.failure = Overloaded("full", reason="QUEUE_FULL", retry_after_s=1)
    async with gateway(slow, bad) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await fan_out(channel, calls()[:2], fail_fast=True)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        async with asyncio.timeout(10):
            while not slow.cancelled["Tokenize"]:
                await asyncio.sleep(0.01)


async def test_best_effort_calls_never_fail_the_whole():
    bad = behind("vision")
    bad.failure = Overloaded("full")
    async with gateway(behind("tokenization"), bad) as (channel, _):
        wanted = calls()[:2]
        wanted[1].best_effort = True
        found = await fan_out(channel, wanted, fail_fast=True)
        assert [result.WhichOneof("reply") for result in found] == ["tokenize", "status"]


async def test_no_more_than_max_parallel_at_once():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, found):
        running = asyncio.create_task(fan_out(channel, pictures(8), max_parallel=3))
        await inside(service, 3)
        await asyncio.sleep(0.05)
        assert service.calls["Classify"] == 3
        service.gate.set()
        assert [result.classify_image.results[0].labels[0].index for result in await running] == list(range(1, 9))


async def test_a_call_has_its_own_time_cut_from_the_callers():
    slow = behind("tokenization")
    slow.gate.clear()
    async with gateway(slow, behind("vision")) as (channel, _):
        wanted = calls()[:2]
        wanted[0].timeout_ms = 200
        found = await fan_out(channel, wanted, timeout=30)
        assert found[0].status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert found[1].classify_image.results
    assert slow.remaining[0] < 1


async def test_a_caller_that_leaves_cancels_every_call():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        call = stub.FanOut(gateway_service_pb2.FanOutRequest(calls=pictures(4)))
        await inside(service, 4)
        call.cancel()
        async with asyncio.timeout(10):
            while service.cancelled["Classify"] < 4:
                await asyncio.sleep(0.01)


async def test_the_same_call_twice_runs_once():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        wanted = [gateway_pb2.Call(id=name, classify_image={"images": [{"encoded": b"1"}]}) for name in "ab"]
        found = await fan_out(channel, wanted)
        assert sorted(result.cache for result in found) in (["coalesced", "miss"], ["hit-l1", "miss"])
    assert service.calls["Classify"] == 1


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ([], "calls"),
        ([gateway_pb2.Call(id="a")], "calls[0].request"),
        ([gateway_pb2.Call(tokenize={"texts": ["a"]})], "calls[0].id"),
        ([gateway_pb2.Call(id="a", count_tokens={"texts": ["a"]})] * 2, "calls[1].id"),
    ],
)
async def test_bad_fan_outs_name_the_field(wanted: list[gateway_pb2.Call], field: str):
    async with gateway(behind("vision")) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await fan_out(channel, wanted)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith(field)


@pytest.mark.parametrize("best_effort", [True, False])
async def test_a_malformed_call_is_its_own_status_and_no_others(best_effort: bool):
    service = behind("vision")
    async with gateway(service, behind("tokenization")) as (channel, _):
        bad = gateway_pb2.Call(id="bad", classify_image={"images": [{}], "top_k": 0}, best_effort=best_effort)
        found = await fan_out(channel, [bad, *calls()[:1]])
        assert found[0].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        told = error_details_pb2.BadRequest()
        assert any(packed.Unpack(told) for packed in found[0].status.details)
        assert [one.field for one in told.field_violations] == ["images[0].source", "top_k"]
        assert found[1].tokenize.encodings
    assert not service.calls


async def test_a_malformed_call_fails_fast_unless_best_effort():
    async with gateway(behind("tokenization")) as (channel, _):
        wanted = [gateway_pb2.Call(id="bad", count_tokens={}, best_effort=True), *calls()[:1]]
        assert (await fan_out(channel, wanted, fail_fast=True))[1].tokenize.encodings
        wanted[0].best_effort = False
        with pytest.raises(aio.AioRpcError) as caught:
            await fan_out(channel, wanted, fail_fast=True)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details().startswith("texts")


async def test_replies_are_bounded_together():
    """Ids in bytes are twice as many as characters of two bytes each; 1 MiB is what a message may hold."""
    async with gateway(behind("tokenization"), max_message_mib=1) as (channel, _):
        wanted = [gateway_pb2.Call(id=str(n), tokenize={"texts": ["é" * 120_000]}) for n in range(3)]
        found = await fan_out(channel, wanted, max_parallel=1)
        assert [result.WhichOneof("reply") for result in found] == ["tokenize", "tokenize", "status"]
        told = "what the calls reply is more than 1048576 bytes together; ask for less of it"
        assert (found[2].status.code, found[2].status.message) == (8, told)
        with pytest.raises(aio.AioRpcError) as caught:
            await fan_out(channel, wanted, fail_fast=True)
        assert caught.value.details() == told
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        stream = stub.FanOutStream(gateway_service_pb2.FanOutStreamRequest(calls=wanted))
        assert [one.result.WhichOneof("reply") async for one in stream] == ["tokenize"] * 3


async def test_a_slow_reader_of_a_stream_has_little_waiting_for_it():
    service = behind("sequence")
    async with gateway(service) as (channel, _):
        large = [[f"{n}" + "x" * 4000] * 240 for n in range(32)]
        wanted = [gateway_pb2.Call(id=str(n), transduce={"texts": texts}) for n, texts in enumerate(large)]
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        stream = stub.FanOutStream(gateway_service_pb2.FanOutStreamRequest(calls=wanted, max_parallel=2))
        await stream.read()
        before = -1
        while before != service.calls["Transduce"]:
            before = service.calls["Transduce"]
            await asyncio.sleep(0.1)
        # What the connection itself buffers comes on top.
        assert before < 20
        assert [await stream.read() is aio.EOF for _ in range(32)] == [False] * 31 + [True]


async def test_a_reader_that_leaves_cancels_what_runs():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        quick = gateway_pb2.Call(id="quick", count_tokens={})
        stream = stub.FanOutStream(
            gateway_service_pb2.FanOutStreamRequest(calls=[quick, *pictures(6)], max_parallel=4)
        )
        service.gate.clear()
        assert (await stream.read()).result.id == "quick"
        await inside(service, 4)
        stream.cancel()
        async with asyncio.timeout(10):
            while service.cancelled["Classify"] < 4:
                await asyncio.sleep(0.01)
        assert service.calls["Classify"] == 4
