"""The Open Inference Protocol at the gateway, over fake services: a stream to several, counts and index."""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime.errors import PreconditionFailed
from tests.suite.gateway_fakes import behind, gateway

STRICT = (("triton_grpc_error", "true"),)


def asked(model: str, name: str) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name=model, id=name)


def stream(channel: aio.Channel, requests: Iterable[pb.ModelInferRequest], **options: Any) -> Any:
    return pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests), **options)


async def test_one_stream_serves_the_models_of_two_services_in_order():
    vision, sequence = behind("vision"), behind("sequence")
    vision.gate.clear()
    async with gateway(vision, sequence) as (channel, _):
        call = stream(
            channel, [asked("lite", "0"), *(asked("upper", str(n)) for n in range(1, 100)), asked("lite", "100")]
        )
        async with asyncio.timeout(10):
            while not sequence.calls["ModelStreamInfer"]:  # it works while the first waits for the other
                await asyncio.sleep(0.01)
        vision.gate.set()
        replies = [reply async for reply in call]
    assert [reply.infer_response.id for reply in replies] == [str(n) for n in range(101)]
    assert (vision.calls["ModelInfer"], sequence.calls["ModelInfer"]) == (2, 99)


async def test_errors_stay_with_their_requests_and_under_strict_end_the_stream_with_their_status():
    vision = behind("vision")
    async with gateway(vision, behind("sequence")) as (channel, _):
        mixed = [asked("lite", "a"), asked("nope", "b"), asked("lite", "wrong"), asked("upper", "c")]
        a, b, wrong, c = [reply async for reply in stream(channel, mixed)]
        assert (a.infer_response.id, b.infer_response.id, c.infer_response.id) == ("a", "b", "c")
        assert "nope" in b.error_message and wrong.error_message == "wrong"
        assert not a.error_message and not c.error_message
        vision.failure = PreconditionFailed("not now")
        call = stream(channel, [asked("upper", "a"), asked("lite", "b"), asked("upper", "c")], metadata=STRICT)
        assert (await call.read()).infer_response.id == "a"
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert vision.metadata[-1]["triton_grpc_error"] == "true"


async def test_a_service_that_breaks_costs_what_it_owed_and_the_stream_goes_on():
    vision = behind("vision")
    vision.failure, vision.fail_after = PreconditionFailed("broken"), 1
    async with gateway(vision, behind("sequence")) as (channel, _):
        call = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        told = []
        for name in "abc":
            await call.write(asked("lite", name))
            told.append((await call.read()).error_message)
            if name == "b":
                vision.failure = None
        await call.done_writing()
        assert await call.read() is aio.EOF
    assert told[0] == "" and "broken" in told[1] and told[2] == ""


async def test_a_stream_that_is_cancelled_ends_at_the_service():
    vision = behind("vision")
    vision.gate.clear()
    async with gateway(vision, behind("sequence")) as (channel, _):
        call = stream(channel, [asked("lite", "a")])
        async with asyncio.timeout(10):
            while not vision.calls["ModelStreamInfer"]:
                await asyncio.sleep(0.01)
            call.cancel()
            while not vision.cancelled["ModelStreamInfer"]:
                await asyncio.sleep(0.01)


async def test_statistics_of_replicas_add_up():
    async with gateway(behind("vision"), behind("vision"), behind("sequence")) as (channel, _):
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        found = await stub.ModelStatistics(pb.ModelStatisticsRequest())
        assert [(one.name, one.inference_count) for one in found.model_stats] == [("lite", 2), ("upper", 1)]
        (one,) = (await stub.ModelStatistics(pb.ModelStatisticsRequest(name="lite"))).model_stats
        assert one.inference_count == 2
        assert (await stub.ModelConfig(pb.ModelConfigRequest(name="lite"))).config.name == "lite"


async def test_the_index_tells_models_of_a_lost_service_as_unavailable():
    async with gateway(behind("vision"), behind("sequence")) as (channel, found):
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        both = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert [(m.name, m.state) for m in both.models] == [("lite", "READY"), ("upper", "READY")]
        await found[0].kill()
        left = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert [(m.name, m.state) for m in left.models] == [("lite", "UNAVAILABLE"), ("upper", "READY")]
        assert "vision" in left.models[0].reason
        ready = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert [m.name for m in ready.models] == ["upper"]


async def test_load_and_unload_reach_the_service():
    vision = behind("vision")
    async with gateway(vision, behind("sequence")) as (channel, _):
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="lite"))
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lite"))
        assert (vision.calls["UnloadModel"], vision.calls["LoadModel"]) == (1, 1)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lite", repository_name="r"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        extensions = (await stub.ServerMetadata(pb.ServerMetadataRequest())).extensions
        assert {"sequence", "statistics", "model_repository"} <= set(extensions)
