"""The Open Inference Protocol on a real server with small models: by a client nobody here wrote, and by hand."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc import aio

from maas.oip.v1 import grpc_service_pb2 as pb
from maas.oip.v1 import grpc_service_pb2_grpc as pb_grpc
from services.runtime import oip_stream
from services.runtime.channels import open_channel
from tests.service.oip_models import Slow, served

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPT = Path(__file__).with_name("triton_datatypes.py")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    root = tmp_path_factory.mktemp("models") / "store"
    async with served(root, ["FP32"]) as address, open_channel(address, retry=False) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def stub(kept: Any) -> Any:
    Slow.forget()
    return kept


def asked(model: str, row: list[float], **fields: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(
        model_name=model, raw_input_contents=[np.array([row], "<f4").tobytes()], **fields
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return request


async def refusal(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_every_rule_by_tritonclient(tmp_path: Path) -> None:
    """In a process of its own: its descriptors and ours have the same names."""
    async with served(tmp_path / "store") as address:
        script = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await script.communicate()
    assert script.returncode == 0 and b"all well" in said, said.decode()


async def test_requests_of_a_stream_overlap_within_the_window_and_answers_keep_their_order(stub: Any) -> None:
    rows = [[0.02 * (number % 3), number, 0, 0] for number in range(100)]
    replies = [r async for r in stub.ModelStreamInfer(iter([asked("slow", row) for row in rows]))]
    found = [np.frombuffer(r.infer_response.raw_output_contents[0], "<f4")[1] for r in replies]
    assert found == [row[1] for row in rows]
    assert 8 < Slow.most <= oip_stream.WINDOW + 2


@pytest.mark.parametrize(
    ("bound", "each"), [("MOST_BYTES", asked("slow", [0, 0, 0, 0]).ByteSize()), ("MOST_ROWS", 1)]
)
async def test_requests_wait_unread_while_those_at_work_are_many_bytes_or_rows(
    stub: Any, monkeypatch: pytest.MonkeyPatch, bound: str, each: int
) -> None:
    monkeypatch.setattr(oip_stream, bound, 2 * each)
    stream = stub.ModelStreamInfer(iter([asked("slow", [0.01, n, 0, 0]) for n in range(12)]))
    assert len([reply async for reply in stream]) == 12
    assert Slow.most == 2


async def test_a_full_queue_makes_a_stream_wait_and_a_lone_call_fail(stub: Any) -> None:
    replies = [r async for r in stub.ModelStreamInfer(iter([asked("busy", [n, 0, 0, 0]) for n in range(10)]))]
    assert [r.error_message for r in replies] == [""] * 10
    ends = await asyncio.gather(
        *(stub.ModelInfer(asked("busy", [n, 0, 0, 0])) for n in range(2)), return_exceptions=True
    )
    (lost,) = [end for end in ends if isinstance(end, aio.AioRpcError)]
    assert lost.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_fails_inside_tells_a_stream_no_secret_and_leaves_the_others_alone(stub: Any) -> None:
    requests = [asked("broken", [0, 0, 0, 0], id="b"), asked("same-fp32", [1, 2, 3, 4], id="s")]
    bad, good = [reply async for reply in stub.ModelStreamInfer(iter(requests))]
    assert "quote request id" in bad.error_message and "swordfish" not in bad.error_message
    assert (bad.infer_response.id, good.infer_response.id) == ("b", "s")
    assert not good.error_message and len(good.infer_response.outputs) == 2


async def test_timeout_in_microseconds_becomes_the_deadline_of_one_request(stub: Any) -> None:
    """The call's own deadline holds where it is shorter."""
    now = time.monotonic()
    wait = {"timeout": {"int64_param": 5_000_000}}
    await stub.ModelInfer(asked("slow", [0, 0, 0, 0], parameters=wait))
    await stub.ModelInfer(asked("slow", [0, 0, 0, 0], parameters=wait), timeout=2)
    both = iter([asked("slow", [0, 0, 0, 0], parameters=wait), asked("slow", [0, 0, 0, 0])])
    assert len([reply async for reply in stub.ModelStreamInfer(both)]) == 2
    own, shorter, first, second = Slow.deadlines
    assert own is not None and now + 5 <= own < now + 8
    assert shorter is not None and shorter < now + 4
    assert first is not None and second is None


async def test_typed_contents_are_answered_typed_unless_raw_is_asked_for(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name="same-fp32")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4], contents={"fp32_contents": [1, 2, 3, 4]})
    reply = await stub.ModelInfer(request)
    assert list(reply.outputs[0].contents.fp32_contents) == [1, 2, 3, 4] and not reply.raw_output_contents
    request.parameters["binary_data_output"].bool_param = True
    reply = await stub.ModelInfer(request)
    assert list(reply.raw_output_contents) == [
        np.array([1, 2, 3, 4], "<f4").tobytes(),
        np.array([1], "<f4").tobytes(),
    ]
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    wanted.parameters["classification"].int64_param = 1
    del request.parameters["binary_data_output"]
    request.outputs.append(wanted)
    reply = await stub.ModelInfer(request)
    assert list(reply.outputs[0].contents.bytes_contents) == [b"4.000000:3"]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"parameters": {"headers": {"string_param": "a"}}}, "INVALID_ARGUMENT", "metadata"),
        ({"parameters": {"triton_x": {"bool_param": True}}}, "INVALID_ARGUMENT", "reserved"),
        ({"parameters": {"timeout": {"string_param": "1"}}}, "INVALID_ARGUMENT", "int64_param"),
        ({"parameters": {"timeout": {"int64_param": -1}}}, "INVALID_ARGUMENT", "0 or more"),
        ({"parameters": {"sequence_start": {"bool_param": True}}}, "INVALID_ARGUMENT", "sequence_id"),
        ({"parameters": {"sequence_id": {"double_param": 1.0}}}, "INVALID_ARGUMENT", "int64_param"),
        ({"parameters": {"sequence_id": {"string_param": "x" * 129}}}, "INVALID_ARGUMENT", "128 bytes"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "INVALID_ARGUMENT", "twice"),
    ],
)
async def test_parameters_that_cannot_be_honoured_are_refused_by_name(
    stub: Any, request_: Any, code: str, words: str
) -> None:
    error = await refusal(stub.ModelInfer(asked("same-fp32", [1, 2, 3, 4], **request_)))
    assert error.code().name == code and words in (error.details() or "")


async def test_parameters_of_the_callers_own_are_left_alone(stub: Any) -> None:
    own = {"trace": {"string_param": "x"}, "triton_enable_empty_final_response": {"bool_param": True}}
    assert (await stub.ModelInfer(asked("same-fp32", [1, 2, 3, 4], parameters=own))).outputs


async def test_the_repository_is_one_and_loading_needs_a_name(stub: Any) -> None:
    named = await refusal(stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="r")))
    assert named.code() is grpc.StatusCode.UNIMPLEMENTED
    nameless = await refusal(stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest()))
    assert nameless.code() is grpc.StatusCode.INVALID_ARGUMENT
    await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="busy"))
    ready = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert {model.state for model in ready.models} == {"READY"}
    assert "busy" not in {model.name for model in ready.models}
    await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="busy"))


async def test_a_stream_with_a_shape_that_no_array_has_is_answered(stub: Any) -> None:
    wild = [asked("same-fp32", [0, 0, 0, 0], id=str(n)) for n in range(3)]
    for request, shape in zip(wild, ([2**62, 4], [-1, 4], []), strict=True):
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)
    replies = [reply async for reply in stub.ModelStreamInfer(iter([*wild, pb.ModelInferRequest(id="3")]))]
    assert [reply.infer_response.id for reply in replies] == ["0", "1", "2", "3"]
    assert all(reply.error_message for reply in replies)
