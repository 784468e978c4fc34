"""The server floor through a real server and a real stub: statuses, ids, deadlines, cancellation, health."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as pb_grpc
from services.runtime.context import current
from services.runtime.errors import NotFound, Overloaded
from services.runtime.floor import Floor
from services.runtime.settings import ServerSettings
from tests.harness import running

SERVICE = "maas.tokenization.v1.TokenizationService"


class Fake(pb_grpc.TokenizationServiceServicer):
    """Answers by the model's name; counts what it began and what it ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()
        self.deadline: float | None = None

    async def Tokenize(self, request: pb.TokenizeRequest, context: aio.ServicerContext) -> pb.TokenizeResponse:
        self.deadline = current().remaining_s()
        if request.model == "crash":
            raise ZeroDivisionError("secret detail")
        if request.model == "missing":
            raise NotFound("model", "missing", ["a", "b"])
        if request.model == "busy":
            raise Overloaded("the queue is full", retry_after_s=1.5)
        if request.model == "wait":
            self.entered.set()
            try:
                await self.gate.wait()
            finally:
                self.closed.set()
        return pb.TokenizeResponse(tokenizer_digest=current().request_id)

    async def DetokenizeStream(
        self, request_iterator: AsyncIterator[pb.DetokenizeStreamRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.DetokenizeStreamResponse]:
        try:
            async for request in request_iterator:
                if request.model == "crash":
                    raise ZeroDivisionError("secret detail")
                yield pb.DetokenizeStreamResponse(text_delta=str(len(request.ids)))
        finally:
            self.closed.set()


@asynccontextmanager
async def fake(**options: object) -> AsyncIterator[tuple[aio.Channel, Fake, Floor[ServerSettings]]]:
    servicer = Fake()

    async def build(floor: Floor[ServerSettings]) -> None:
        floor.add(pb_grpc.add_TokenizationServiceServicer_to_server, servicer)

    options = {"store": Path("unused"), "lame_duck_s": 0, "drain_s": 5} | options
    async with running(ServerSettings(**options), build) as (channel, floor):  # type: ignore[arg-type]
        yield channel, servicer, floor


async def failure(call: "aio.UnaryUnaryCall") -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


def detail(error: aio.AioRpcError, kind: type) -> object:
    """The one google.rpc detail of this kind."""
    raw = next(v for k, v in error.trailing_metadata() if k == "grpc-status-details-bin")
    for packed in status_pb2.Status.FromString(raw).details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    raise AssertionError(f"no {kind.__name__}")


async def test_errors_carry_code_reason_and_details() -> None:
    async with fake() as (channel, _, _floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        missing = await failure(stub.Tokenize(pb.TokenizeRequest(model="missing")))
        assert missing.code() is grpc.StatusCode.NOT_FOUND
        assert "a, b" in (missing.details() or "")
        assert detail(missing, error_details_pb2.ErrorInfo).domain == "maas"
        busy = await failure(stub.Tokenize(pb.TokenizeRequest(model="busy")))
        assert busy.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(busy, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1500
        assert ("grpc-retry-pushback-ms", "1500") in list(busy.trailing_metadata())


async def test_field_limits_are_enforced_before_the_handler() -> None:
    async with fake() as (channel, servicer, _):
        stub = pb_grpc.TokenizationServiceStub(channel)
        error = await failure(stub.Tokenize(pb.TokenizeRequest(texts=["a"] * 300)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == "texts"


async def test_unknown_failures_tell_an_id_and_nothing_else() -> None:
    async with fake() as (channel, _, _floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        error = await failure(
            stub.Tokenize(pb.TokenizeRequest(model="crash"), metadata=(("x-request-id", "abc-1"),))
        )
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (error.details() or "")
        assert "abc-1" in (error.details() or "")
        assert ("x-request-id", "abc-1") in list(error.trailing_metadata())


async def test_an_rpc_without_a_handler_is_unimplemented_by_name() -> None:
    async with fake() as (channel, _, _floor):
        error = await failure(pb_grpc.TokenizationServiceStub(channel).GetTokenizer(pb.GetTokenizerRequest()))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "GetTokenizer" in (error.details() or "")


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe"])
async def test_bytes_that_do_not_parse_are_invalid_argument(body: bytes) -> None:
    async with fake() as (channel, _, _floor):
        call = channel.unary_unary(f"/{SERVICE}/Tokenize")
        error = await failure(call(body))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(error, error_details_pb2.ErrorInfo).reason == "MALFORMED_MESSAGE"
        stub = pb_grpc.TokenizationServiceStub(channel)
        assert await stub.Tokenize(pb.TokenizeRequest())


async def test_malformed_message_inside_a_stream() -> None:
    async with fake() as (channel, _, _floor):
        call = channel.stream_stream(f"/{SERVICE}/DetokenizeStream")()
        await call.write(b"\x0a\x02\xff\xfe")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_request_id_is_kept_or_made() -> None:
    async with fake() as (channel, _, _floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        call = stub.Tokenize(pb.TokenizeRequest(), metadata=(("x-request-id", "mine"),))
        assert (await call).tokenizer_digest == "mine"
        assert ("x-request-id", "mine") in list(await call.trailing_metadata())
        made = (
            await stub.Tokenize(pb.TokenizeRequest(), metadata=(("x-request-id", "x" * 500),))
        ).tokenizer_digest
        assert len(made) == 32


async def test_the_handler_sees_the_deadline_and_is_cancelled_by_it() -> None:
    async with fake() as (channel, servicer, _):
        stub = pb_grpc.TokenizationServiceStub(channel)
        error = await failure(stub.Tokenize(pb.TokenizeRequest(model="wait"), timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(servicer.closed.wait(), 5)
        assert servicer.deadline is not None
        assert 0 < servicer.deadline < 0.5


async def test_a_leaving_caller_closes_the_stream_handler() -> None:
    async with fake() as (channel, servicer, _):
        call = pb_grpc.TokenizationServiceStub(channel).DetokenizeStream()
        await call.write(pb.DetokenizeStreamRequest(ids=[1, 2]))
        assert (await call.read()).text_delta == "2"
        call.cancel()
        await asyncio.wait_for(servicer.closed.wait(), 5)


async def test_an_error_inside_a_stream_ends_it_with_its_status() -> None:
    async with fake() as (channel, _, _floor):
        call = pb_grpc.TokenizationServiceStub(channel).DetokenizeStream()
        await call.write(pb.DetokenizeStreamRequest(ids=[1]))
        assert (await call.read()).text_delta == "1"
        await call.write(pb.DetokenizeStreamRequest(model="crash"))
        assert await call.code() is grpc.StatusCode.INTERNAL


async def test_admission_refuses_beyond_the_limit_and_recovers() -> None:
    async with fake(queue_limit=2) as (channel, servicer, floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        inside = [asyncio.ensure_future(stub.Tokenize(pb.TokenizeRequest(model="wait"))) for _ in range(2)]
        while floor.admission.inside < 2:
            await asyncio.sleep(0.01)
        error = await failure(stub.Tokenize(pb.TokenizeRequest()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert detail(error, error_details_pb2.RetryInfo)
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1
        servicer.gate.set()
        await asyncio.gather(*inside)
        assert await stub.Tokenize(pb.TokenizeRequest())


async def test_health_by_name_list_and_watch() -> None:
    async with fake() as (channel, _, floor):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == 1
        listed = set((await health.List(health_pb2.HealthListRequest())).statuses)
        assert listed == {"", "maas.process", "maas.admin.v1.AdminService", SERVICE}
        unknown = await failure(health.Check(health_pb2.HealthCheckRequest(service="nope")))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == 1
        floor.readiness.set(SERVICE, False)
        assert (await watch.read()).status == 2
        floor.readiness.set(SERVICE, True)
        assert (await watch.read()).status == 1
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_under_both_names(version: str) -> None:
    async with fake() as (channel, _, _floor):
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {s.name for s in (await call.read()).list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
    assert reflection_pb2_grpc


async def test_drain_says_not_serving_first_and_lets_calls_end() -> None:
    async with fake(lame_duck_s=0.3) as (channel, servicer, floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        inside = asyncio.ensure_future(stub.Tokenize(pb.TokenizeRequest(model="wait")))
        await servicer.entered.wait()
        closing = asyncio.ensure_future(floor.close())
        await asyncio.sleep(0)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 2
        late = await stub.Tokenize(pb.TokenizeRequest())
        assert late.tokenizer_digest
        floor.readiness.set(SERVICE, True)
        assert floor.readiness.status(SERVICE) == 2
        servicer.gate.set()
        assert await inside
        await closing


async def test_an_idle_stream_loses_its_place() -> None:
    async with fake(stream_idle_s=0.2, queue_limit=1) as (channel, servicer, floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        call = stub.DetokenizeStream()
        await call.write(pb.DetokenizeStreamRequest(ids=[1]))
        assert (await call.read()).text_delta == "1"
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(servicer.closed.wait(), 5)
        while floor.admission.inside:
            await asyncio.sleep(0.01)
        assert await stub.Tokenize(pb.TokenizeRequest())


async def test_leaving_callers_are_not_failures() -> None:
    """However the cancel races with reads and writes: CANCELLED, or OK if the stream seemed at its end."""
    async with fake() as (channel, _, floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        for _ in range(40):
            call = stub.DetokenizeStream()
            for _ in range(3):
                await call.write(pb.DetokenizeStreamRequest(ids=[1]))
            await call.read()
            call.cancel()
        while floor.admission.inside:
            await asyncio.sleep(0.01)
        ended = {
            sample.labels["grpc_status"]
            for metric in floor.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "grpc_server_call_duration_seconds_count"
        }
    assert "CANCELLED" in ended
    assert ended <= {"CANCELLED", "OK"}


async def test_one_failing_closer_keeps_no_other_from_closing() -> None:
    closed: list[str] = []

    async def good() -> None:
        closed.append("good")

    async def bad() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        async with fake() as (_, _, floor):
            floor.on_close(good)
            floor.on_close(bad)
    assert closed == ["good"]


async def test_watchers_do_not_hold_up_the_drain() -> None:
    async with fake(drain_s=60) as (channel, _, floor):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == 1
        await asyncio.wait_for(floor.close(), 10)
        assert (await watch.read()).status == 2
        assert await watch.read() is aio.EOF


async def test_a_message_over_the_limit_says_the_limit() -> None:
    async with fake(max_message_mib=1) as (channel, _, _floor):
        big = channel.unary_unary(f"/{SERVICE}/Tokenize")
        error = await failure(big(b"\x0a" + b"x" * (2 * 1024 * 1024)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1048576" in (error.details() or "")


@pytest.mark.parametrize("transport", ["native", "grpc"])
async def test_calls_are_counted_with_their_bytes_and_final_status(transport: str) -> None:
    async with fake(transport=transport) as (channel, _, floor):
        stub = pb_grpc.TokenizationServiceStub(channel)
        asked = pb.TokenizeRequest(texts=["some words"])
        answered = await stub.Tokenize(asked)
        await failure(stub.Tokenize(pb.TokenizeRequest(model="busy")))
        parts = [pb.DetokenizeStreamRequest(ids=[1] * size) for size in (1, 20)]
        replies = [reply async for reply in stub.DetokenizeStream(iter(parts))]
        while floor.admission.inside:
            await asyncio.sleep(0.01)

        def size(way: str, method: str, status: str = "OK") -> float | None:
            name = f"grpc_server_call_{way}_total_compressed_message_size_bytes_sum"
            labels = {"grpc_method": f"{SERVICE}/{method}", "grpc_status": status}
            return floor.metrics.registry.get_sample_value(name, labels)

        assert (size("rcvd", "Tokenize"), size("sent", "Tokenize")) == (asked.ByteSize(), answered.ByteSize())
        assert size("sent", "Tokenize", "RESOURCE_EXHAUSTED") == 0
        assert size("rcvd", "DetokenizeStream") == sum(part.ByteSize() for part in parts)
        assert size("sent", "DetokenizeStream") == sum(reply.ByteSize() for reply in replies)
        begun = {"grpc_method": f"{SERVICE}/Tokenize"}
        assert floor.metrics.registry.get_sample_value("grpc_server_call_started_total", begun) == 2
