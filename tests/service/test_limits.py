"""Hostile sizes and shapes through a real server: refused by name, before anything is read, off the event loop."""

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime import oip
from services.runtime.server import Floor
from services.runtime.settings import ServerSettings
from services.runtime.store.manifest import Manifest, TensorSpec
from services.runtime.store.store import ModelStore
from tests.harness import running

TASK = "vision.classify"


class Echo:
    """A model of one FP32 input [-1, 4] that answers with it."""

    oip_inputs = (TensorSpec(name="x", dtype="FP32", shape=(-1, 4)),)
    oip_outputs = (TensorSpec(name="y", dtype="FP32", shape=(-1, 4)),)

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    async def warm_up(self) -> None: ...

    async def close(self) -> None: ...

    async def infer(self, inputs: Mapping[str, Any], deadline: float | None) -> Mapping[str, Any]:
        return {"y": inputs["x"]}


async def load(manifest: Manifest, directory: Path) -> Echo:
    return Echo(manifest)


@asynccontextmanager
async def echo(root: Path) -> AsyncIterator[pb_grpc.GRPCInferenceServiceStub]:
    store = ModelStore(root)
    with store.publish("net") as draft:
        (draft.directory / "weights.bin").write_bytes(b"none")
        draft.fields.update(tasks=[TASK], config={})

    async def build(floor: Floor[ServerSettings]) -> None:
        host = floor.host("vision", load, {TASK: "net"})
        floor.add(pb_grpc.add_GRPCInferenceServiceServicer_to_server, oip.OipService(host, floor.readiness))

    async with running(ServerSettings(port=0, lame_duck_s=0, store=root), build) as (channel, _):
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def infer(shape: list[int], raw: bytes, datatype: str = "FP32", **fields: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="net", raw_input_contents=[raw], **fields)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


async def refusal(call: "aio.UnaryUnaryCall") -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (infer([1], b"\0" * 400, "BYTES"), "inputs[0].datatype"),
        (infer([1] * 65, b"\0" * 4), "inputs[0].shape"),
        (infer([0, 2**62, 2**62], b""), "inputs[0].shape"),
        (infer([2**62, 4], b""), "inputs[0].shape"),
        (infer([1, 4], b"\0" * 16, model_version="²"), "model_version"),
        (infer([1, 4], b"\0" * 16, outputs=[{"name": "y"}] * 9), "outputs"),
    ],
)
async def test_what_the_model_does_not_take_is_refused_by_name(
    tmp_path: Path, request_: pb.ModelInferRequest, field: str
) -> None:
    async with echo(tmp_path / "store") as stub:
        error = await refusal(stub.ModelInfer(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith(f"{field}:")


async def test_content_is_read_after_its_metadata_fits_and_much_of_it_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, threads = oip.read_inputs, []

    def watched(request: pb.ModelInferRequest) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return read(request)

    monkeypatch.setattr(oip, "read_inputs", watched)
    loop = threading.current_thread()
    many = np.arange(4 * 4096, dtype="<f4")
    async with echo(tmp_path / "store") as stub:
        await refusal(stub.ModelInfer(infer([1], b"\0" * 400, "BYTES")))
        assert threads == []
        await stub.ModelInfer(infer([1, 4], b"\0" * 16))
        reply = await stub.ModelInfer(infer([4096, 4], many.tobytes()))
    assert threads[0] is loop
    assert threads[1] is not loop
    assert reply.raw_output_contents == [many.tobytes()]
