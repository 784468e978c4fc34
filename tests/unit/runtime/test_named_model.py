"""The models that requests name: messages, bytes of them, parts of a stream, and what names none."""

import pytest
from google.protobuf.message import Message

from maas.gateway.v1 import gateway_service_pb2 as gateway_pb
from maas.generation.v1 import generation_service_pb2 as generation_pb
from maas.oip.v1 import grpc_service_pb2 as oip_pb
from maas.sequence.v1 import sequence_service_pb2 as sequence_pb
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization_pb
from maas.vision.v1 import vision_service_pb2 as vision_pb
from services.runtime.named_model import models_in
from services.runtime.unread import Unread

GENERATE = "/maas.generation.v1.GenerationService/Generate"
OIP = "/inference.GRPCInferenceService/"


@pytest.mark.parametrize(
    ("method", "request_", "named"),
    [
        (GENERATE, generation_pb.GenerateRequest(model="base"), ("base",)),
        (GENERATE, generation_pb.GenerateRequest(adapter=""), ("",)),
        (GENERATE, generation_pb.GenerateRequest(adapter="pirate@2"), ("", "pirate")),
        (GENERATE, generation_pb.GenerateRequest(model="base", adapter="@2"), ("base", "@2")),
        (f"{OIP}ModelInfer", oip_pb.ModelInferRequest(model_name="lite"), ("lite",)),
        (f"{OIP}ModelReady", oip_pb.ModelReadyRequest(name="lite"), ("lite",)),
        (f"{OIP}ModelMetadata", oip_pb.ModelMetadataRequest(name="lite"), ("lite",)),
        (f"{OIP}ModelConfig", oip_pb.ModelConfigRequest(name="lite"), ("lite",)),
        (f"{OIP}ModelStatistics", oip_pb.ModelStatisticsRequest(), ("",)),
        (f"{OIP}RepositoryIndex", oip_pb.RepositoryIndexRequest(repository_name="lite"), ()),
        (
            "/maas.gateway.v1.GatewayService/RunPipeline",
            gateway_pb.RunPipelineRequest(name="a pipeline's, not a model's"),
            (),
        ),
        (
            "/maas.vision.v1.VisionService/ClassifyStream",
            vision_pb.ClassifyStreamRequest(request={"model": "lite"}),
            ("lite",),
        ),
        (
            "/maas.tokenization.v1.TokenizationService/TokenizeStream",
            tokenization_pb.TokenizeStreamRequest(),
            (),
        ),
        (
            "/maas.sequence.v1.SequenceService/RunSession",
            sequence_pb.RunSessionRequest(open={"model": "upper"}),
            ("upper",),
        ),
        ("/maas.sequence.v1.SequenceService/RunSession", sequence_pb.RunSessionRequest(close=True), ()),
    ],
)
def test_a_request_names_the_same_models_read_and_unread(
    method: str, request_: Message, named: tuple[str, ...]
) -> None:
    data = request_.SerializeToString()
    for form in (request_, data, Unread(method, type(request_), data)):
        assert models_in(method, form) == named


def test_what_does_not_parse_names_none() -> None:
    assert models_in(GENERATE, b"\xff\xff") == ()
