"""The services' own contracts through the gateway: deadlines, ids, cancellation, errors, replicas."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.sequence.v1 import sequence_pb2, sequence_service_pb2, sequence_service_pb2_grpc
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.errors import InvalidInput, Overloaded, Unavailable
from tests.suite.gateway_fakes import Running, behind, gateway, outcome

PICTURE = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"1234"}])


def vision(channel: aio.Channel) -> vision_service_pb2_grpc.VisionServiceStub:
    return vision_service_pb2_grpc.VisionServiceStub(channel)


def rich(error: aio.AioRpcError) -> status_pb2.Status:
    return status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


def detail(status: status_pb2.Status, kind: type) -> object:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in {status}")


async def test_unary_server_stream_and_bidi_pass_through():
    services = [behind(area) for area in ("vision", "tokenization", "generation")]
    async with gateway(*services) as (channel, _):
        reply = await vision(channel).Classify(PICTURE)
        assert reply.results[0].labels[0].index == 4

        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        stream = stub.GenerateStream(generation_service_pb2.GenerateStreamRequest(text="abc"))
        assert "".join([message.text_delta async for message in stream]) == "cba"

        async def ids():
            for letter in "hi!":
                yield tokenization_service_pb2.DetokenizeStreamRequest(ids=letter.encode())

        replies = tokenization_service_pb2_grpc.TokenizationServiceStub(channel).DetokenizeStream(ids())
        assert "".join([message.text_delta async for message in replies]) == "hi!"


async def test_a_session_answers_each_message_before_the_next_is_sent():
    async with gateway(behind("tokenization")) as (channel, _):
        stream = tokenization_service_pb2_grpc.TokenizationServiceStub(channel).DetokenizeStream()
        for letter in "ab":
            await stream.write(tokenization_service_pb2.DetokenizeStreamRequest(ids=letter.encode()))
            assert (await stream.read()).text_delta == letter
        await stream.done_writing()
        assert (await stream.read()).finished


async def test_deadline_request_id_and_trace_travel_on():
    service = behind("vision")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with gateway(service) as (channel, _):
        metadata = (("x-request-id", "mine"), ("traceparent", trace))
        call = vision(channel).Classify(PICTURE, timeout=20, metadata=metadata)
        await call
        assert dict(await call.trailing_metadata())["x-request-id"] == "mine"
        assert dict(await call.trailing_metadata())["x-maas-fake"] == "carried"
    assert service.metadata[0]["x-request-id"] == "mine"
    version, trace_id, span_id, flags = service.metadata[0]["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span_id != "b7ad6b7169203331"
    assert 15 < service.remaining[0] < 21


async def test_without_a_deadline_none_is_made_up():
    service = behind("vision")
    async with gateway(service) as (channel, _):
        await vision(channel).Classify(PICTURE)
    assert service.remaining == [None]


@pytest.mark.parametrize("method", ["Classify", "GenerateStream", "DetokenizeStream"])
async def test_a_caller_that_leaves_cancels_the_work_behind(method: str):
    area = {"Classify": "vision", "GenerateStream": "generation", "DetokenizeStream": "tokenization"}[method]
    service = behind(area)
    service.gate.clear()
    async with gateway(service) as (channel, _):
        if method == "Classify":
            call = vision(channel).Classify(PICTURE)
        elif method == "GenerateStream":
            stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
            call = stub.GenerateStream(generation_service_pb2.GenerateStreamRequest(text="abc"))
        else:
            call = tokenization_service_pb2_grpc.TokenizationServiceStub(channel).DetokenizeStream()
            await call.write(tokenization_service_pb2.DetokenizeStreamRequest(ids=b"a"))
        async with asyncio.timeout(10):
            while not service.calls[method]:
                await asyncio.sleep(0.01)
            call.cancel()
            while not service.cancelled[method]:
                await asyncio.sleep(0.01)


async def test_a_deadline_cancels_the_work_behind():
    service = behind("vision")
    service.gate.clear()
    async with gateway(service) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await vision(channel).Classify(PICTURE, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(10):
            while not service.cancelled["Classify"]:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("streaming", [False, True])
async def test_rich_errors_pass_unchanged(streaming: bool):
    service = behind("generation")
    service.failure = Overloaded("full", reason="QUEUE_FULL", metadata={"limit": "9"}, retry_after_s=2.5)
    async with gateway(service) as (channel, _):
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            if streaming:
                await stub.GenerateStream(generation_service_pb2.GenerateStreamRequest(text="x")).read()
            else:
                await stub.Generate(generation_service_pb2.GenerateRequest(text="x"))
    error = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    info = detail(rich(error), error_details_pb2.ErrorInfo)
    assert (info.reason, dict(info.metadata)) == ("QUEUE_FULL", {"limit": "9"})
    assert detail(rich(error), error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() == 2.5
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "2500"
    assert "x-request-id" in dict(error.trailing_metadata())


async def test_an_error_reaches_a_stream_that_is_still_being_sent(caplog: pytest.LogCaptureFixture):
    service = behind("tokenization")
    service.failure = InvalidInput("ids", "outside the vocabulary")
    async with gateway(service) as (channel, _):
        stub = tokenization_service_pb2_grpc.TokenizationServiceStub(channel)

        async def eager():
            for _ in range(20):
                yield tokenization_service_pb2.DetokenizeStreamRequest(ids=b"a" * 1000)

        async def one() -> None:
            with pytest.raises(aio.AioRpcError):
                await stub.DetokenizeStream(eager()).read()

        caplog.set_level("INFO", "maas.call")
        for _ in range(10):
            await asyncio.gather(*(one() for _ in range(8)))
    # What the servers said; the client of this test may lose the same race.
    said = [record.status for record in caplog.records if record.getMessage() == "refused"]
    assert len(said) == 160 and set(said) == {"INVALID_ARGUMENT"}


async def test_a_service_may_end_well_while_the_caller_is_still_sending(caplog: pytest.LogCaptureFixture):
    service = behind("tokenization")
    service.content_with_one = True
    async with gateway(service) as (channel, _):
        stub = tokenization_service_pb2_grpc.TokenizationServiceStub(channel)

        async def eager():
            for _ in range(400):
                yield tokenization_service_pb2.DetokenizeStreamRequest(ids=b"a" * 2000)

        async def one() -> str:
            try:
                return (await stub.DetokenizeStream(eager(), timeout=20).read()).text_delta[:1]
            except aio.AioRpcError as error:
                return error.code().name

        caplog.set_level("INFO", "maas.call")
        ends = {await one() for _ in range(60)}
    # The client of this test may lose the same race: then its own library says INTERNAL.
    assert "a" in ends and ends <= {"a", "INTERNAL"}
    assert [record.status for record in caplog.records if record.getMessage() == "refused"] == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_bad_requests_are_refused_with_the_field_named():
    async with gateway(behind("vision"), behind("generation")) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await vision(channel).Classify(vision_service_pb2.ClassifyRequest())
        bad = detail(rich(caught.value), error_details_pb2.BadRequest)
        assert bad.field_violations[0].field == "images"


@pytest.mark.parametrize(
    "path",
    [
        "/maas.vision.v1.VisionService/Classify",
        "/maas.sequence.v1.SequenceService/StepSession",
        "/maas.generation.v1.GenerationService/GenerateStream",
        "/inference.GRPCInferenceService/ModelInfer",
    ],
)
async def test_bytes_that_do_not_parse_are_invalid_argument(path: str):
    services = [behind(area) for area in ("vision", "sequence", "generation")]
    async with gateway(*services) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            if path.endswith("Stream"):
                await channel.unary_stream(path)(b"\xff\xff\xff").read()
            else:
                await channel.unary_unary(path)(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(rich(caught.value), error_details_pb2.ErrorInfo).reason == "MALFORMED_MESSAGE"


async def test_a_missing_service_is_unavailable_by_name_and_used_again_when_it_returns():
    service = behind("vision")
    async with gateway(service, behind("sequence")) as (channel, found):
        await found[0].kill()
        with pytest.raises(aio.AioRpcError) as caught:
            async with asyncio.timeout(10):
                while True:
                    await vision(channel).Classify(PICTURE, metadata=(("cache-control", "no-store"),))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        info = detail(rich(caught.value), error_details_pb2.ErrorInfo)
        assert (info.reason, info.metadata["service"]) == ("BACKEND_UNAVAILABLE", "vision")
        assert detail(rich(caught.value), error_details_pb2.RetryInfo).retry_delay.seconds == 1

        stub = sequence_service_pb2_grpc.SequenceServiceStub(channel)
        assert (await stub.Transduce(sequence_service_pb2.TransduceRequest(texts=["a"]))).results[0].text == "A"

        again = await Running.start(service, found[0].port)
        async with asyncio.timeout(10):
            while True:
                try:
                    await vision(channel).Classify(PICTURE, metadata=(("cache-control", "no-store"),))
                    break
                except aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE
                    await asyncio.sleep(0.05)
        await again.kill()


async def test_unavailable_is_tried_on_another_replica_other_errors_are_not():
    bad, good = behind("vision"), behind("vision")
    bad.failure = good.failure = None
    async with gateway(bad, good) as (channel, _):
        bad.failure = Unavailable("draining", retry_after_s=1)
        for number in range(1, 5):
            picture = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x" * number}])
            assert (await vision(channel).Classify(picture)).results[0].labels[0].index == number
        assert bad.calls["Classify"] >= 1 and good.calls["Classify"] == 4
        before = bad.calls["Classify"] + good.calls["Classify"]
        bad.failure = good.failure = Overloaded("full")
        with pytest.raises(aio.AioRpcError):
            await vision(channel).Classify(vision_service_pb2.ClassifyRequest(images=[{"encoded": b"y" * 9}]))
        assert bad.calls["Classify"] + good.calls["Classify"] == before + 1


async def test_a_dead_replica_costs_no_call():
    first, second = behind("vision"), behind("vision")
    async with gateway(first, second) as (channel, found):

        async def call(number: int) -> int:
            picture = vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x" * number}])
            return (await vision(channel).Classify(picture)).results[0].labels[0].index

        assert [await call(number) for number in range(1, 20)] == list(range(1, 20))
        assert first.calls["Classify"] and second.calls["Classify"]
        await found[0].kill()
        assert [await call(number) for number in range(20, 60)] == list(range(20, 60))


async def test_a_rolling_restart_of_the_replicas_under_load_loses_no_call():
    services = [behind("vision"), behind("vision")]
    async with gateway(*services, hedge=False) as (channel, found):
        stop, sizes = asyncio.Event(), iter(range(1, 1_000_000))

        async def load() -> int:
            answered = 0
            while not stop.is_set():
                size = next(sizes)
                picture = vision_service_pb2.ClassifyRequest(images=[{"encoded": size.to_bytes(4, "little")}])
                await vision(channel).Classify(picture, timeout=20)
                answered += 1
            return answered

        workers = [asyncio.create_task(load()) for _ in range(8)]
        for index, service in enumerate(services):
            await found[index].retire()
            found[index] = await Running.start(service, found[index].port)
            before = service.calls["Classify"]
            async with asyncio.timeout(10):
                while service.calls["Classify"] == before:
                    await asyncio.sleep(0.01)
        stop.set()
        counts = await asyncio.gather(*workers)
        assert sum(counts) == sum(service.calls["Classify"] for service in services)


async def test_least_in_flight_takes_the_next_call():
    slow, free = behind("vision"), behind("vision")
    slow.gate.clear()
    free.gate.clear()
    async with gateway(slow, free) as (channel, _):
        pictures = [vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x" * n}]) for n in range(1, 9)]
        calls = [asyncio.ensure_future(vision(channel).Classify(picture)) for picture in pictures]
        async with asyncio.timeout(10):
            while slow.calls["Classify"] + free.calls["Classify"] < 8:
                await asyncio.sleep(0.01)
        assert slow.calls["Classify"] == free.calls["Classify"] == 4
        slow.gate.set()
        free.gate.set()
        await asyncio.gather(*calls)


async def test_a_stream_that_began_is_never_begun_again():
    first, second = behind("generation"), behind("generation")
    for service in (first, second):
        service.failure, service.fail_after = Unavailable("draining"), 2
    async with gateway(first, second) as (channel, _):
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        stream = stub.GenerateStream(generation_service_pb2.GenerateStreamRequest(text="abcdef"))
        assert [(await stream.read()).text_delta for _ in range(2)] == ["f", "e"]
        with pytest.raises(aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sorted(service.calls["GenerateStream"] for service in (first, second)) == [0, 3]


async def test_a_stream_that_did_not_begin_is_tried_on_another_replica():
    first, second = behind("generation"), behind("generation")
    first.failure = Unavailable("draining")
    async with gateway(first, second) as (channel, _):
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        # Each prompt has a replica of its own to begin with.
        for text in map("{:05}".format, range(16)):
            stream = stub.GenerateStream(generation_service_pb2.GenerateStreamRequest(text=text))
            assert "".join([message.text_delta async for message in stream]) == text[::-1]
        assert first.calls["GenerateStream"]


async def test_a_step_of_a_session_is_never_sent_twice():
    services = [behind("sequence"), behind("sequence")]
    for service in services:
        service.failure = Unavailable("gone")
    async with gateway(*services) as (channel, _):
        stub = sequence_service_pb2_grpc.SequenceServiceStub(channel)
        request = sequence_service_pb2.StepSessionRequest(
            session_id="s", step=sequence_pb2.SessionStep(step=1, series={"values": [0.0]})
        )
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.StepSession(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sum(service.calls["StepSession"] for service in services) == 1


async def test_sessions_are_forwarded_and_never_remembered():
    service = behind("sequence")
    async with gateway(service) as (channel, _):
        stub = sequence_service_pb2_grpc.SequenceServiceStub(channel)
        request = sequence_service_pb2.StepSessionRequest(
            session_id="s", step=sequence_pb2.SessionStep(step=1, series={"values": [0.0]})
        )
        for number in (1, 2, 3):
            how, reply = await outcome(stub.StepSession(request))
            assert (how, reply.output.step) == ("bypass", number)
