"""Every way to name a model is judged by the policy, through a real gateway: adapters, OIP, streams."""

import logging
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio

from maas.generation.v1 import generation_service_pb2 as generation_pb
from maas.oip.v1 import grpc_service_pb2 as oip_pb
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization_pb
from maas.tokenization.v1 import tokenization_service_pb2_grpc as tokenization_grpc
from maas.vision.v1 import vision_service_pb2 as vision_pb
from tests.service.test_policy import code_of, guarded
from tests.suite.gateway_fakes import behind

GENERATION = "/maas.generation.v1.GenerationService/"
OIP = "/inference.GRPCInferenceService/"
# Method → requests that name what the teller may ask, and such that name something else too.
NAMING: dict[str, tuple[list[Message], list[Message]]] = {
    f"{GENERATION}Generate": (
        [generation_pb.GenerateRequest(text="a", model="base", adapter=it) for it in ("", "pirate", "pirate@2")],
        [generation_pb.GenerateRequest(text="a", model="base", adapter=it) for it in ("secret", "secret@2", "@2")]
        + [generation_pb.GenerateRequest(text="a", model="secret", adapter="pirate")],
    ),
    f"{GENERATION}GenerateStream": (
        [generation_pb.GenerateStreamRequest(text="a", model="base", adapter="pirate")],
        [generation_pb.GenerateStreamRequest(text="a", model="base", adapter="secret")],
    ),
    f"{OIP}ModelReady": ([oip_pb.ModelReadyRequest(name="lite")], [oip_pb.ModelReadyRequest(name="secret")]),
    f"{OIP}ModelMetadata": ([oip_pb.ModelMetadataRequest(name="lite")], [oip_pb.ModelMetadataRequest(name="no")]),
    f"{OIP}ModelConfig": ([oip_pb.ModelConfigRequest(name="lite")], [oip_pb.ModelConfigRequest(name="secret")]),
    f"{OIP}ModelStatistics": (
        [oip_pb.ModelStatisticsRequest(name="lite")],
        [oip_pb.ModelStatisticsRequest(name="secret"), oip_pb.ModelStatisticsRequest()],
    ),
    "/maas.vision.v1.VisionService/ClassifyStream": (
        [vision_pb.ClassifyStreamRequest(request={"model": "lite"})],
        [vision_pb.ClassifyStreamRequest(request={"model": "secret"})],
    ),
    "/maas.tokenization.v1.TokenizationService/TokenizeStream": (
        [tokenization_pb.TokenizeStreamRequest(request={"model": "base"})],
        [tokenization_pb.TokenizeStreamRequest(request={"model": "secret"})],
    ),
}


async def test_every_way_to_name_a_model_is_judged(tmp_path: Path) -> None:
    generation = behind("generation")
    generation.models[0].name = "base"
    async with guarded(tmp_path, behind("vision"), behind("tokenization"), generation) as at:
        for path, (fine, denied) in NAMING.items():
            for request, ends in [(one, False) for one in fine] + [(one, True) for one in denied]:
                body = request.SerializeToString()
                code = await code_of(at.channel, path, None, at.given["teller"], body)
                assert (code == "PERMISSION_DENIED") is ends, (path, request, code)


async def test_a_message_refused_on_its_way_ends_the_stream_with_the_reason_and_is_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="maas.audit")
    service = behind("tokenization")
    async with guarded(tmp_path, service) as at:
        detokenize = tokenization_grpc.TokenizationServiceStub(at.channel).DetokenizeStream
        asked = [tokenization_pb.DetokenizeStreamRequest(model=it, ids=b"a") for it in ("base", "secret")]
        with pytest.raises(aio.AioRpcError, match="may not ask 'secret'") as error:
            [one async for one in detokenize(iter(asked), metadata=at.given["teller"], timeout=10)]
    assert [request.model for _, request in service.seen] == ["base"]
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    noted = [record.message for record in caplog.records if record.name == "maas.audit"]
    assert noted == ["PERMISSION_DENIED"]
