"""Hostile sizes and shapes through a real server: refused by name, before anything is read, off the event loop."""

import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime import oip, oip_infer
from services.runtime.errors import InvalidInput, ServiceError, Violation
from services.runtime.floor import Floor
from services.runtime.oip_statistics import Tallies
from services.runtime.settings import ServerSettings
from services.runtime.status import MOST_STATUS, status_of
from services.runtime.store.manifest import Manifest, TensorSpec
from services.runtime.store.store import ModelStore
from tests.harness import running

TASK = "vision.classify"


class Echo:
    """A model of one FP32 input [-1, 4] that answers with it."""

    oip_inputs = (TensorSpec(name="x", dtype="FP32", shape=(-1, 4)),)
    oip_outputs = (TensorSpec(name="y", dtype="FP32", shape=(-1, 4)),)
    oip_labels: Mapping[str, list[str]] = {}
    oip_rows, oip_idle_s = 1 << 20, None

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
        floor.add(
            pb_grpc.add_GRPCInferenceServiceServicer_to_server,
            oip.OipService(floor.follower(host), floor.readiness, Tallies()),
        )

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
    read, threads = oip_infer.read_inputs, []

    def watched(request: pb.ModelInferRequest) -> dict[str, Any]:
        threads.append(threading.current_thread())
        return read(request)

    monkeypatch.setattr(oip_infer, "read_inputs", watched)
    loop = threading.current_thread()
    many = np.arange(4 << 17, dtype="<f4")
    async with echo(tmp_path / "store") as stub:
        await refusal(stub.ModelInfer(infer([1], b"\0" * 400, "BYTES")))
        assert threads == []
        await stub.ModelInfer(infer([1, 4], b"\0" * 16))
        reply = await stub.ModelInfer(infer([1 << 17, 4], many.tobytes()))
    assert threads[0] is loop
    assert threads[1] is not loop
    assert reply.raw_output_contents == [many.tobytes()]


@pytest.mark.parametrize("size", [100, 3000, 8000, 100_000])
@pytest.mark.parametrize("letter", ["x", "é", "😀"])
async def test_a_long_name_comes_back_short_and_with_its_code(tmp_path: Path, letter: str, size: int) -> None:
    async with echo(tmp_path / "store") as stub:
        error = await refusal(stub.ModelInfer(pb.ModelInferRequest(model_name=letter * size)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert (error.details() or "").endswith("available: net")
    assert {detail.TypeName() for detail in status_of(error).details} == {
        "google.rpc.ErrorInfo",
        "google.rpc.ResourceInfo",
    }


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
@pytest.mark.parametrize("count", [1, 16, 5000])
async def test_many_long_violations_keep_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letter: str, count: int
) -> None:
    def refuse(*_: object) -> None:
        raise InvalidInput.many(Violation(f"{letter * 500}[{i}]", letter * 5000) for i in range(count))

    monkeypatch.setattr(oip_infer, "check_inputs", refuse)
    async with echo(tmp_path / "store") as stub:
        for _ in range(20):  # between the soft and the hard limit clients drop trailers by chance
            error = await refusal(stub.ModelInfer(infer([1, 4], b"\0" * 16)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            bad = error_details_pb2.BadRequest()
            assert any(detail.Unpack(bad) for detail in status_of(error).details)
            assert bad.field_violations[0].field.startswith(letter)


async def test_details_that_do_not_fit_are_left_out_and_the_code_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ServiceError("😀" * 1000, metadata={"log": "x" * 20_000}, retry_after_s=1.5)

    monkeypatch.setattr(oip_infer, "check_inputs", refuse)
    async with echo(tmp_path / "store") as stub:
        error = await refusal(stub.ModelInfer(infer([1, 4], b"\0" * 16)))
    assert error.code() is grpc.StatusCode.INTERNAL
    status = status_of(error)
    assert status.ByteSize() <= MOST_STATUS
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.RetryInfo"]
