"""Labels at the gateway: who answers, what the cache gives, the canary's share, replicas that are behind."""

import asyncio
from collections import Counter

import pytest
from grpc import StatusCode, aio

from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.errors import PreconditionFailed
from tests.suite.gateway_fakes import Behind, behind, gateway, model, outcome


def lite(version: int, labels: str = "", unversioned: bool = False) -> model_pb2.Model:
    return model("lite", version, "vision", "vision.classify", labels=labels, unversioned=unversioned)


def labelled() -> Behind:
    """A vision service with `lite`: 1 is stable and answers, 2 is the canary."""
    service = behind("vision")
    service.models = [lite(1, "stable", unversioned=True), lite(2, "canary")]
    return service


async def classify(
    channel: aio.Channel, version: str = "", data: bytes = b"1234", control: str = ""
) -> tuple[str, str]:
    """What the cache said, and the version that answered."""
    request = vision_service_pb2.ClassifyRequest(images=[{"encoded": data}], version=version)
    metadata = (("cache-control", control),) if control else ()
    said, reply = await outcome(
        vision_service_pb2_grpc.VisionServiceStub(channel).Classify(request, metadata=metadata)
    )
    return said, reply.served_by.version


async def generated_by(channel: aio.Channel, text: str) -> str:
    """The version that answered an unseeded sampling, which nobody remembers."""
    request = generation_service_pb2.GenerateRequest(text=text, sampling={"temperature": 0.7})
    stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
    return str((await stub.Generate(request)).served_by.version)


async def test_each_label_has_its_version_and_its_own_answers():
    service = labelled()
    async with gateway(service) as (channel, _):
        assert await classify(channel) == ("miss", "1")
        assert await classify(channel, "canary") == ("miss", "2")
        assert await classify(channel, "stable") == ("hit-l1", "1")
        assert await classify(channel, "2") == ("hit-l1", "2")


async def test_a_moved_label_moves_traffic_and_takes_no_old_answer_along():
    service = labelled()
    async with gateway(service) as (channel, _):
        assert [await classify(channel, version) for version in ("", "canary")] == [("miss", "1"), ("miss", "2")]
        service.swap(lite(1), lite(2, "stable canary", unversioned=True))
        async with asyncio.timeout(10):
            while (await classify(channel))[1] != "2":
                await asyncio.sleep(0.01)
        assert await classify(channel, "stable") == ("hit-l1", "2")
        # Back again: the answers of 1 are still its own.
        service.swap(lite(1, "stable", unversioned=True), lite(2, "canary"))
        async with asyncio.timeout(10):
            while (await classify(channel))[1] != "1":
                await asyncio.sleep(0.01)
        assert await classify(channel) == ("hit-l1", "1")


async def test_without_a_share_nothing_tries_the_canary():
    async with gateway(labelled()) as (channel, _):
        assert {(await classify(channel, data=b"%d" % n))[1] for n in range(50)} == {"1"}


async def test_a_share_of_the_calls_without_a_version_tries_the_canary_each_always_the_same_way():
    service = labelled()
    async with gateway(service, canary_percent=30) as (channel, _):
        first = [await classify(channel, data=b"%d" % n) for n in range(200)]
        assert 30 <= Counter(version for _, version in first)["2"] <= 90
        again = [await classify(channel, data=b"%d" % n) for n in range(200)]
        assert again == [("hit-l1", version) for _, version in first]
        fresh = [await classify(channel, data=b"%d" % n, control="no-store") for n in range(200)]
        assert fresh == [("bypass", version) for _, version in first]
        assert {(await classify(channel, "stable", b"%d" % n))[1] for n in range(50)} == {"1"}


async def test_calls_that_nobody_remembers_take_part_too():
    service = behind("generation")
    task = "generation.generate"
    service.models = [
        model("reverse", 1, "generation", task, unversioned=True),
        model("reverse", 2, "generation", task, labels="canary"),
    ]
    async with gateway(service, canary_percent=50) as (channel, _):
        first = [await generated_by(channel, f"text {n}") for n in range(60)]
        assert set(first) == {"1", "2"}
        assert [await generated_by(channel, f"text {n}") for n in range(60)] == first


@pytest.mark.parametrize("percent", [0, 100])
async def test_a_canary_that_a_replica_does_not_have_yet_costs_no_call(percent: float):
    ahead, late = labelled(), behind("vision")
    late.models = [lite(1, "stable", unversioned=True)]
    async with gateway(ahead, late, canary_percent=percent) as (channel, _):
        async with asyncio.timeout(20):
            answered = [(await classify(channel, data=b"%d" % n))[1] for n in range(40)]
        assert set(answered) <= {"1", "2"}
        assert late.calls["Classify"] > 0


async def test_a_label_is_set_through_the_gateway_at_every_service_that_has_the_model():
    service = labelled()
    async with gateway(service, behind("generation")) as (channel, _):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = model_service_pb2.SetLabelRequest(model="lite", label="stable", version="2")
        reply = await stub.SetLabel(request)
        assert reply.model.name == "lite"
        assert service.seen[-1] == ("SetLabel", request)


async def test_a_label_that_one_of_two_services_refuses_moves_at_neither():
    words, texts = behind("tokenization"), behind("generation")
    words.models = [model("lm", 1, "tokenization", "tokenization.tokenize")]
    texts.models = [model("lm", 1, "generation", "generation.generate")]
    texts.failure = PreconditionFailed("loading lm version 2 failed", reason="LOAD_FAILED")
    async with gateway(words, texts) as (channel, _):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = model_service_pb2.SetLabelRequest(model="lm", label="stable", version="2")
        with pytest.raises(aio.AioRpcError, match="loading lm version 2 failed") as caught:
            await stub.SetLabel(request)
        assert caught.value.code() is StatusCode.FAILED_PRECONDITION
        assert not words.calls["SetLabel"]
        texts.failure = None
        assert (await stub.SetLabel(request)).model.service == "tokenization,generation"
        assert words.calls["SetLabel"] == 1
