"""Short calls that travel together to a service: to their callers nothing differs from a call each."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from maas.sequence.v1 import sequence_pb2, sequence_service_pb2, sequence_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.envelope import exchange, methods
from services.runtime.errors import InvalidInput, NotFound, Overloaded, PreconditionFailed
from services.runtime.settings import ServerSettings
from tests.suite.gateway_fakes import Behind, behind, gateway

FRESH = (("cache-control", "no-store"), ("x-request-id", "mine"))


def picture(size: int = 4) -> vision_service_pb2.ClassifyRequest:
    return vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x" * size}])


def classify(channel: aio.Channel, size: int = 4, **more: Any) -> Any:
    return vision_service_pb2_grpc.VisionServiceStub(channel).Classify(picture(size), metadata=FRESH, **more)


def together(service: Behind) -> list[bool]:
    """Of each call, whether it came in an envelope: nobody says there what library it was sent with."""
    return ["user-agent" not in metadata for metadata in service.metadata]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def told(call: Any) -> dict[str, Any]:
    """Everything that a caller sees of a call."""
    try:
        reply = (await call).SerializeToString()
    except aio.AioRpcError:
        reply = None
    return {
        "reply": reply,
        "code": await call.code(),
        "details": await call.details(),
        "initial": sorted(await call.initial_metadata()),
        "trailing": sorted(await call.trailing_metadata()),
    }


FAILURES: dict[str, Exception | None] = {
    "none": None,
    "bad": InvalidInput("images[0]", "is no picture"),
    "busy": Overloaded("full", reason="QUEUE_FULL", metadata={"limit": "9"}, retry_after_s=2.5),
    "gone": NotFound("model", "näme", ["a", "b"]),
    "state": PreconditionFailed("another tokenizer's ids; " + "long " * 400),
    "crash": ZeroDivisionError("secret"),
    "undone": NotImplementedError(),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_an_answer_is_that_of_a_call_by_itself(failure: str) -> None:
    seen = []
    for coalesce in (True, False):
        service = behind("vision")
        service.failure = FAILURES[failure]
        async with gateway(service, coalesce=coalesce) as (channel, _):
            seen.append(await told(classify(channel, timeout=20)))
        assert set(together(service)) == {coalesce}
        metadata = dict(service.metadata[0])
        assert metadata["x-request-id"] == "mine" and metadata["traceparent"]
    assert seen[0] == seen[1]


async def test_a_broken_limit_is_told_by_the_service_in_the_same_words() -> None:
    path = "/maas.vision.v1.VisionService/Classify"
    for body in (b"", b"\xff\xff"):
        seen = []
        for coalesce in (True, False):
            async with gateway(behind("vision"), coalesce=coalesce) as (channel, _):
                seen.append(await told(channel.unary_unary(path)(body, metadata=FRESH)))
        assert seen[0] == seen[1]
        assert seen[0]["code"] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_large_request_goes_by_itself() -> None:
    service = behind("vision")
    async with gateway(service) as (channel, _):
        for size in (methods.MOST_BYTES - 100, methods.MOST_BYTES + 100):
            assert (await classify(channel, size)).results[0].labels[0].index == size
    assert together(service) == [True, False]


async def test_a_slow_call_holds_nobody_up() -> None:
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        slow = asyncio.ensure_future(classify(channel, 1))
        await until(lambda: service.calls["Classify"] == 1)
        service.gate, held = asyncio.Event(), service.gate
        service.gate.set()
        found = await asyncio.gather(*(classify(channel, size) for size in range(2, 40)))
        assert [reply.results[0].labels[0].index for reply in found] == list(range(2, 40))
        assert not slow.done()
        held.set()
        assert (await slow).results[0].labels[0].index == 1
    assert all(together(service))


async def test_callers_that_leave_end_their_own_work_alone() -> None:
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        calls = [asyncio.ensure_future(classify(channel, size)) for size in range(1, 13)]
        await until(lambda: service.calls["Classify"] == 12)
        for call in calls[::2]:
            call.cancel()
        await until(lambda: service.cancelled["Classify"] == 6)
        service.gate.set()
        found = await asyncio.gather(*calls[1::2])
        assert [reply.results[0].labels[0].index for reply in found] == list(range(2, 13, 2))
        assert service.cancelled["Classify"] == 6


async def test_what_a_lost_replica_took_along_is_answered_by_another() -> None:
    first, second = behind("vision"), behind("vision")
    for service in (first, second):
        service.gate.clear()
    async with gateway(first, second) as (channel, found):
        calls = [asyncio.ensure_future(classify(channel, size)) for size in range(1, 13)]
        await until(lambda: first.calls["Classify"] + second.calls["Classify"] == 12)
        assert first.calls["Classify"] == 6
        await found[0].kill()
        second.gate.set()
        replies = await asyncio.gather(*calls)
        assert [reply.results[0].labels[0].index for reply in replies] == list(range(1, 13))
        assert second.calls["Classify"] == 12


async def test_a_lost_step_of_a_session_is_not_sent_again() -> None:
    services = [behind("sequence"), behind("sequence")]
    for service in services:
        service.gate.clear()
    async with gateway(*services) as (channel, found):
        stub = sequence_service_pb2_grpc.SequenceServiceStub(channel)
        step = sequence_pb2.SessionStep(step=1, series={"values": [0.0]})
        call = asyncio.ensure_future(
            stub.StepSession(sequence_service_pb2.StepSessionRequest(session_id="s", step=step))
        )
        await until(lambda: sum(one.calls["StepSession"] for one in services) == 1)
        await found[0 if services[0].calls["StepSession"] else 1].kill()
        with pytest.raises(aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sum(one.calls["StepSession"] for one in services) == 1


async def test_a_service_without_envelopes_gets_calls_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerSettings, "takes_envelopes", False)
    service = behind("vision")
    async with gateway(service) as (channel, _):
        found = await asyncio.gather(*(classify(channel, size) for size in range(1, 9)))
    assert [reply.results[0].labels[0].index for reply in found] == list(range(1, 9))
    assert together(service) == [False] * 8


async def test_a_service_with_a_shorter_list_gets_the_rest_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "METHODS", frozenset())
    service = behind("vision")
    async with gateway(service) as (channel, _):
        assert (await classify(channel, 7)).results[0].labels[0].index == 7
    assert together(service) == [False]


async def test_calls_in_company_share_messages_and_each_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[int] = []
    opened = exchange.opened

    def counted(data: bytes) -> Any:
        messages.append(len(data))
        return opened(data)

    monkeypatch.setattr(exchange, "opened", counted)
    service = behind("vision")
    async with gateway(service) as (channel, _):

        async def caller(first: int) -> None:
            for size in range(first, first + 40):
                assert (await classify(channel, size)).results[0].labels[0].index == size

        await caller(1)
        assert len(messages) == 40
        await asyncio.gather(*(caller(100 * number) for number in range(1, 13)))
    assert all(together(service)) and len(messages) - 40 < 12 * 40 * 0.8


@pytest.mark.parametrize("control", ["no-store", "no-store, only-if-cached", "no-cache, no-store", ""])
async def test_what_is_not_to_be_stored_is_sent_as_it_came(control: str) -> None:
    """Then no version is written into it: the service chooses."""
    path = "/maas.vision.v1.VisionService/Classify"
    service = behind("vision")
    async with gateway(service) as (channel, _):
        call = channel.unary_unary(path)(picture().SerializeToString(), metadata=(("cache-control", control),))
        if "only-if-cached" in control:
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND and not service.calls
        else:
            assert vision_service_pb2.ClassifyResponse.FromString(await call).results[0].labels[0].index == 4
            assert (service.seen[0][1].version == "") is ("no-store" in control)
