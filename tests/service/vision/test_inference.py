"""The Open Inference Protocol in front of the same net."""

import grpc
import numpy as np
import pytest
import torch
from grpc import aio

from maas.oip.v1 import grpc_service_pb2, grpc_service_pb2_grpc
from services.runtime.floor import Floor
from services.vision.settings import VisionSettings
from tests.service.vision.calls import normalised, refusal


def infer(array: np.ndarray, name: str = "images") -> grpc_service_pb2.ModelInferRequest:
    tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=array.shape)
    return grpc_service_pb2.ModelInferRequest(
        model_name="digits", inputs=[tensor], raw_input_contents=[array.tobytes()]
    )


async def test_open_inference_gives_the_nets_logits(
    server: tuple[aio.Channel, Floor[VisionSettings]], net: torch.nn.Module
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    batch = np.stack([normalised(seed) for seed in range(3)])
    reply = await protocol.ModelInfer(infer(batch))
    with torch.inference_mode():
        wanted = net(torch.from_numpy(batch))
    assert [output.name for output in reply.outputs] == ["logits", "features"]
    for output, raw, want in zip(reply.outputs, reply.raw_output_contents, wanted, strict=True):
        got = np.frombuffer(raw, "<f4").reshape(tuple(output.shape))
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


async def test_open_inference_metadata_can_be_inferred_as_it_stands(
    server: tuple[aio.Channel, Floor[VisionSettings]],
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    assert (await protocol.ServerReady(grpc_service_pb2.ServerReadyRequest())).ready
    metadata = await protocol.ModelMetadata(grpc_service_pb2.ModelMetadataRequest(name="digits"))
    (described,) = metadata.inputs
    assert (described.name, described.datatype, list(described.shape)) == ("images", "FP32", [-1, 1, 28, 28])
    ones = np.zeros([abs(axis) for axis in described.shape], np.float32)
    assert (await protocol.ModelInfer(infer(ones))).outputs


@pytest.mark.parametrize(
    ("array", "name", "field"),
    [
        (np.full((2, 1, 28, 28), np.nan, np.float32), "images", "inputs[0][0]"),
        (np.zeros((65, 1, 28, 28), np.float32), "images", "inputs[0].shape"),
        (np.zeros((1, 1, 28, 27), np.float32), "images", "inputs[0].shape"),
        (np.zeros((1, 1, 28, 28), np.float32), "picture", "inputs[0].name"),
    ],
)
async def test_open_inference_names_what_is_wrong(
    server: tuple[aio.Channel, Floor[VisionSettings]], array: np.ndarray, name: str, field: str
) -> None:
    protocol = grpc_service_pb2_grpc.GRPCInferenceServiceStub(server[0])
    code, _, violations = await refusal(protocol.ModelInfer(infer(array, name)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and field in violations
