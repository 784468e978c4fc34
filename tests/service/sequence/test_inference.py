"""The Open Inference Protocol in front of the same models."""

from typing import Any

import grpc
import numpy as np
import pytest

from maas.oip.v1 import grpc_service_pb2 as oip
from maas.sequence.v1 import sequence_service_pb2 as pb
from services.runtime import tensors
from services.runtime.oip_tensors import join_bytes
from tests.service.sequence.calls import FRAMES, asked, packed, refused, texts

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def test_frames_as_tensors_start_from_silence(inference: Any, stub: Any) -> None:
    metadata = await inference.ModelMetadata(oip.ModelMetadataRequest(name="silero-vad"))
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("audio", "FP32", [-1, 512])]
    raw = FRAMES[20:23].astype("<f4").tobytes()
    reply = await inference.ModelInfer(asked("silero-vad", "audio", "FP32", [3, 512], raw))
    found = np.frombuffer(reply.raw_output_contents[0], "<f4")
    for frame, probability in zip(FRAMES[20:23], found, strict=True):
        request = pb.ClassifyRequest(step_scores=True)
        request.series.values.append(packed(frame))
        assert (await stub.Classify(request)).results[0].step_scores[0] == pytest.approx(probability, abs=1e-5)


async def test_a_frame_that_holds_no_number_is_named(inference: Any) -> None:
    raw = np.full((1, 512), np.nan, "<f4").tobytes()
    call = inference.ModelInfer(asked("silero-vad", "audio", "FP32", [1, 512], raw))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "audio[0][0]")


async def test_texts_as_tensors_equal_embed_and_transduce(inference: Any, stub: Any) -> None:
    raw = join_bytes([b"A man is eating food.", b"computer"])
    reply = await inference.ModelInfer(asked("minilm-l6-v2", "text", "BYTES", [2], raw))
    found = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(2, 384)
    wanted = (await stub.Embed(texts("A man is eating food.", "computer"))).embeddings
    np.testing.assert_allclose(found, tensors.to_numpy(wanted, ""), atol=1e-5)
    spoken = await inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([b"computer"])))
    assert spoken.raw_output_contents[0] == join_bytes([b"K AH0 M P Y UW1 T ER0"])
    broken = inference.ModelInfer(asked("g2p-en", "text", "BYTES", [1], join_bytes([bytes([0xFF])])))
    await refused(broken, grpc.StatusCode.INVALID_ARGUMENT, "text[0]")
