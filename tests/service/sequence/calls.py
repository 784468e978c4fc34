"""What tests ask of the sequence service, and how it refuses."""

from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from maas.common.v1 import tensor_pb2
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1 import sequence_service_pb2 as pb
from tests.models.signals import mixed

FRAMES = mixed().reshape(-1, 512)


def packed(values: np.ndarray) -> tensor_pb2.Series:
    return tensor_pb2.Series(packed=values.astype("<f4").tobytes(), sample_rate_hz=16000)


def step(number: int, frame: np.ndarray) -> sequence_pb2.SessionStep:
    return sequence_pb2.SessionStep(step=number, series=packed(frame))


def texts(*values: str, **fields: Any) -> pb.EmbedRequest:
    return pb.EmbedRequest(texts=tensor_pb2.Texts(values=values), **fields)


def asked(model: str, name: str, datatype: str, shape: list[int], raw: bytes) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def violation(error: aio.AioRpcError) -> error_details_pb2.BadRequest.FieldViolation:
    status = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(status).details:
        found = error_details_pb2.BadRequest()
        if detail.Unpack(found):
            return found.field_violations[0]
    raise AssertionError("no field violation in the status")


async def refused(call: Any, code: grpc.StatusCode, field: str | None = None, said: str = "") -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    assert said in caught.value.details()
    if field is not None:
        assert violation(caught.value).field == field


class Talk:
    """A RunSession stream spoken line by line."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.RunSession()

    async def say(self, **message: Any) -> pb.RunSessionResponse:
        await self.call.write(pb.RunSessionRequest(**message))
        return await self.call.read()

    async def open(self, **fields: Any) -> sequence_pb2.SessionStatus:
        return (await self.say(open=sequence_pb2.OpenSession(**fields))).opened

    async def hear(self, frames: Iterable[np.ndarray], first: int = 1) -> list[float]:
        heard = []
        for number, frame in enumerate(frames, first):
            output = (await self.say(step=step(number, frame))).output
            assert output.step == number
            heard.append(output.scores[0])
        return heard
