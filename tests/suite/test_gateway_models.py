"""Models, health, reflection and the Open Inference Protocol for the whole suite, and what the process imports."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.__main__ import build
from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from maas.oip.v1 import grpc_service_pb2, grpc_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.channels import open_channel
from services.runtime.floor import Floor
from tests.suite.gateway_fakes import Running, behind, gateway, model, settings, started

ROOT = Path(__file__).parents[2]


def models(channel: aio.Channel) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def oip(channel: aio.Channel) -> grpc_service_pb2_grpc.GRPCInferenceServiceStub:
    return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def test_list_names_the_services_that_did_not_answer():
    async with gateway(behind("vision"), behind("sequence")) as (channel, _):
        reply = await models(channel).ListModels(model_service_pb2.ListModelsRequest())
        assert [one.name for one in reply.models] == ["lite", "upper"]
        assert sorted(reply.unavailable) == ["generation", "tokenization"]


async def test_list_is_unavailable_when_nobody_answers():
    async with gateway() as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await models(channel).ListModels(model_service_pb2.ListModelsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_model_of_two_services_is_one_model():
    tokens, text = behind("tokenization"), behind("generation")
    tokens.models = [model("smol", 1, "tokenization", "tokenization.tokenize", "same")]
    text.models = [model("smol", 1, "generation", "generation.generate", "same")]
    async with gateway(tokens, text, behind("vision")) as (channel, _):
        reply = await models(channel).GetModel(model_service_pb2.GetModelRequest(model="smol"))
        assert list(reply.model.default_for) == ["generation.generate", "tokenization.tokenize"]
        assert reply.model.service == "tokenization,generation"
        await models(channel).LoadModel(model_service_pb2.LoadModelRequest(model="smol"))
        await models(channel).UnloadModel(model_service_pb2.UnloadModelRequest(model="smol"))
    for service in (tokens, text):
        assert (service.calls["LoadModel"], service.calls["UnloadModel"]) == (1, 1)


async def test_an_unknown_model_is_not_found_and_the_known_are_named():
    async with gateway(*map(behind, ("vision", "tokenization", "sequence", "generation"))) as (channel, _):
        with pytest.raises(aio.AioRpcError) as caught:
            await models(channel).GetModel(model_service_pb2.GetModelRequest(model="nope"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert "bytes, lite, reverse, upper" in caught.value.details()


async def test_watch_tells_the_present_and_then_changes():
    service = behind("vision")
    async with gateway(service, behind("sequence")) as (channel, _):
        stream = models(channel).WatchModels(model_service_pb2.WatchModelsRequest())
        present = [(await stream.read()).model.name for _ in range(2)]
        assert present == ["upper", "lite"]
        assert (await stream.read()).snapshot_end
        service.swap(model("lite", 2, "vision", "vision.classify"))
        async with asyncio.timeout(10):
            changes = [(await stream.read()).model for _ in range(2)]
        assert [(one.version, one.state) for one in changes] == [
            ("1", model_pb2.MODEL_STATE_AVAILABLE),
            ("2", model_pb2.MODEL_STATE_SERVING),
        ]


async def test_a_watch_ends_when_the_gateway_drains():
    async with started(behind("vision")) as found:
        chosen = settings({"vision": found[0].address})
        floor = Floor(chosen.model_copy(update={"drain_s": 60}))
        await build(floor)
        port = await floor.start()
        async with open_channel(f"127.0.0.1:{port}") as channel:
            stream = models(channel).WatchModels(model_service_pb2.WatchModelsRequest())
            while not (await stream.read()).snapshot_end:
                pass
            async with asyncio.timeout(20):
                await floor.close()
            with pytest.raises(aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_is_serving_and_tells_of_each_backend_and_model():
    service = behind("vision")
    async with gateway(service) as (channel, found):
        stub = health_pb2_grpc.HealthStub(channel)

        async def state(name: str) -> int:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status

        serving, stopped = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert await state("maas.backend/vision") == await state("maas.model/lite") == serving
        assert await state("maas.backend/generation") == stopped
        await found[0].kill()
        async with asyncio.timeout(10):
            while await state("maas.backend/vision") != stopped:
                await asyncio.sleep(0.01)
        assert await state("maas.model/lite") == stopped
        assert await state("") == await state("maas.vision.v1.VisionService") == serving
        again = await Running.start(service, found[0].port)
        async with asyncio.timeout(10):
            while await state("maas.backend/vision") != serving:
                await asyncio.sleep(0.01)
        await again.kill()


async def test_reflection_lists_every_contract():
    async with gateway() as (channel, _):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        stream = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        listed = {one.name for one in (await stream.read()).list_services_response.service}
        assert listed >= {
            "maas.gateway.v1.GatewayService",
            "maas.generation.v1.GenerationService",
            "maas.model.v1.ModelService",
            "maas.sequence.v1.SequenceService",
            "maas.tokenization.v1.TokenizationService",
            "maas.vision.v1.VisionService",
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
        }


async def test_open_inference_goes_to_the_service_that_has_the_model():
    vision, sequence = behind("vision"), behind("sequence")
    async with gateway(vision, sequence) as (channel, found):
        assert (await oip(channel).ServerLive(grpc_service_pb2.ServerLiveRequest())).live
        assert (await oip(channel).ServerReady(grpc_service_pb2.ServerReadyRequest())).ready
        assert (await oip(channel).ServerMetadata(grpc_service_pb2.ServerMetadataRequest())).name == "maas"
        assert (await oip(channel).ModelReady(grpc_service_pb2.ModelReadyRequest(name="upper"))).ready
        request = grpc_service_pb2.ModelInferRequest(model_name="upper", id="7", raw_input_contents=[b"abc"])
        reply = await oip(channel).ModelInfer(request)
        assert (reply.id, list(reply.raw_output_contents)) == ("7", [b"abc"])
        assert (vision.calls["ModelInfer"], sequence.calls["ModelInfer"]) == (0, 1)
        with pytest.raises(aio.AioRpcError) as caught:
            await oip(channel).ModelInfer(grpc_service_pb2.ModelInferRequest(model_name="nope"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await found[0].kill()
        async with asyncio.timeout(10):
            while (await oip(channel).ServerReady(grpc_service_pb2.ServerReadyRequest())).ready:
                await asyncio.sleep(0.01)


async def test_status_counts_calls_per_replica():
    async with gateway(behind("vision"), behind("vision")) as (channel, found):
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        for n in range(1, 7):
            await stub.Classify(vision_service_pb2.ClassifyRequest(images=[{"encoded": b"x" * n}]))
        status = await gateway_service_pb2_grpc.GatewayServiceStub(channel).GetStatus(
            gateway_service_pb2.GetStatusRequest()
        )
        vision = [one for one in status.backends if one.service == "vision"]
        assert sorted(one.address for one in vision) == sorted(one.address for one in found)
        assert [(one.health, one.calls, one.in_flight) for one in vision] == [("SERVING", 3, 0)] * 2


def test_the_process_imports_neither_torch_nor_numpy():
    code = (
        "import sys, gateway.__main__; "
        "print(sorted({'torch', 'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    )
    path = f"{ROOT}:{ROOT / 'protos' / 'gen'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
