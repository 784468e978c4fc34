"""The client's side of the Open Inference Protocol: arrays → the bytes of a call, the reply → arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maas.oip.v1 import grpc_service_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
DATATYPES = {"float32": "FP32", "int64": "INT64"}

Array = np.ndarray[Any, Any]


def request(model: str, arrays: Mapping[str, Array]) -> bytes:
    """Rows first. The bytes that a client of the protocol sends."""
    message = pb.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        message.inputs.add(name=name, datatype=DATATYPES[array.dtype.name], shape=array.shape)
        message.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    return message.SerializeToString()


def output(reply: bytes) -> Array:
    """The first output, float32 [rows, …]; raw, or typed as some servers answer."""
    return _first(pb.ModelInferResponse.FromString(reply))


def streamed_output(reply: bytes) -> Array:
    """The same of a stream's message. RuntimeError with the server's words for an error."""
    message = pb.ModelStreamInferResponse.FromString(reply)
    if message.error_message:
        raise RuntimeError(message.error_message)
    return _first(message.infer_response)


def _first(message: pb.ModelInferResponse) -> Array:
    told = message.outputs[0]
    if message.raw_output_contents:
        return np.frombuffer(message.raw_output_contents[0], np.float32).reshape(told.shape)
    return np.array(told.contents.fp32_contents, np.float32).reshape(told.shape)
