"""Speech through a held session at the gateway: real speech from a synthesiser, silence and noise around it."""

from collections.abc import Iterator

import numpy as np
import pytest

from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1 import sequence_service_pb2_grpc as pb_grpc
from tests.speech import say
from tests.suite.conftest import Suite

pytestmark = pytest.mark.models
FRAME = 512


def frames(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[i : i + FRAME] for i in range(0, len(samples) - FRAME + 1, FRAME)]


def requests(parts: list[np.ndarray]) -> Iterator[pb.RunSessionRequest]:
    yield pb.RunSessionRequest(open={})
    for number, part in enumerate(parts, 1):
        step = {"step": number, "series": {"packed": part.astype("<f4").tobytes()}}
        yield pb.RunSessionRequest(step=step)
    yield pb.RunSessionRequest(close=True)


@pytest.mark.parametrize("door", ["gateway", "sequence"])
def test_a_session_separates_speech_from_silence(suite: Suite, door: str) -> None:
    silence = np.zeros(16_000, np.float32)
    speech = say("The quick brown fox jumps over the lazy dog, and then it runs away.")
    noise = np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)
    parts = [frames(silence), frames(speech), frames(noise)]
    stub = pb_grpc.SequenceServiceStub(suite.channel(door))
    replies = list(stub.RunSession(requests([f for part in parts for f in part]), timeout=60))
    assert replies[0].opened.session_id
    assert replies[0].served_by.model == "silero-vad"
    outputs = [r.output for r in replies if r.HasField("output")]
    assert [o.step for o in outputs] == list(range(1, len(outputs) + 1))
    scores = np.array([o.scores[0] for o in outputs])
    first, second = len(parts[0]), len(parts[0]) + len(parts[1])
    assert scores[:first].mean() < 0.05
    assert scores[first:second].mean() > 0.7
    assert scores[second + 15 :].mean() < 0.2
    assert replies[-1].ended.reason


def test_classify_says_where_speech_is(suite: Suite) -> None:
    stub = pb_grpc.SequenceServiceStub(suite.channel())
    audio = {"packed": say("Hello, is anybody there?").astype("<f4").tobytes(), "sample_rate_hz": 16_000}
    quiet = {"packed": np.zeros(16_000, "<f4").tobytes(), "sample_rate_hz": 16_000}
    reply = stub.Classify(pb.ClassifyRequest(series={"values": [audio, quiet]}), timeout=30)
    assert [r.labels[0].name for r in reply.results] == ["speech", "silence"]
