"""Open Inference Protocol messages ↔ arrays, for servers whose own code does not do it. Knows no server."""

import numpy as np

from maas.oip.v1 import grpc_service_pb2 as pb
from tests.bench.peers.serving.session import Array

DTYPES = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}


def arrays_of(request: pb.ModelInferRequest) -> dict[str, Array]:
    """The raw inputs, not copied."""
    return {
        one.name: np.frombuffer(raw, DTYPES[one.datatype]).reshape(one.shape)
        for one, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def answer(request: pb.ModelInferRequest, name: str, found: Array) -> pb.ModelInferResponse:
    """One FP32 output, raw."""
    reply = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    reply.outputs.add(name=name, datatype="FP32", shape=found.shape)
    reply.raw_output_contents.append(np.ascontiguousarray(found).tobytes())
    return reply
