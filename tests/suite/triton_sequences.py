"""Run by test_oip: argv = address. Texts, and speech as sequences, by tritonclient: unary, streamed, asyncio."""

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

VAD, EMBED, SPELL = "silero-vad", "minilm-l6-v2", "g2p-en"
NOISE = np.random.default_rng(0).normal(0, 0.1, (40, 1, 512)).astype(np.float32)


def audio(frame: np.ndarray) -> list[triton.InferInput]:
    return [triton.InferInput("audio", list(frame.shape), "FP32").set_data_from_numpy(frame)]


def text(*values: str) -> list[triton.InferInput]:
    array = np.array([value.encode() for value in values], dtype=np.object_)
    return [triton.InferInput("text", [len(values)], "BYTES").set_data_from_numpy(array)]


def score(result: triton.InferResult) -> float:
    return float(result.as_numpy("probability")[0, 0])


def steps(sequence: int | str) -> list[dict[str, Any]]:
    last = len(NOISE) - 1
    return [
        {
            "model_name": VAD,
            "inputs": audio(frame),
            "request_id": f"{sequence}-{number}",
            "sequence_id": sequence,
            "sequence_start": number == 0,
            "sequence_end": number == last,
        }
        for number, frame in enumerate(NOISE)
    ]


def texts(client: triton.InferenceServerClient) -> None:
    spoken = client.infer(SPELL, text("cat", "computer")).as_numpy("phonemes")
    assert spoken.tolist() == [b"K AE1 T", b"K AH0 M P Y UW1 T ER0"]
    vectors = client.infer(EMBED, text("A man is eating food.", "Someone eats.", "The sky is blue.")).as_numpy(
        "embedding"
    )
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def unary(client: triton.InferenceServerClient, sequence: int | str) -> list[float]:
    return [score(client.infer(**step)) for step in steps(sequence)]


def streamed(client: triton.InferenceServerClient) -> list[list[float]]:
    """Two sequences at once, each request sent without waiting."""
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    for pair in zip(steps(11), steps("11"), strict=True):
        for step in pair:
            client.async_stream_infer(**step)
    client.stop_stream()
    found = [told.get_nowait() for _ in range(told.qsize())]
    assert not [error for _, error in found if error is not None]
    return [[score(result) for result, _ in found[which::2]] for which in range(2)]


async def aio(address: str) -> list[float]:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        for step in steps(12):
            yield step

    async with triton_aio.InferenceServerClient(address) as client:
        heard = [(result, error) async for result, error in client.stream_infer(asked())]
    assert not [error for _, error in heard if error is not None]
    return [score(result) for result, _ in heard]


def unknown(client: triton.InferenceServerClient) -> None:
    try:
        client.infer(VAD, audio(NOISE[0]), sequence_id=999)
    except triton.InferenceServerException as error:
        assert "must specify the START flag" in error.message(), error
    else:
        raise AssertionError("a sequence that was not started went on")


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        assert "sequence" in client.get_server_metadata().extensions
        assert client.get_model_config(VAD).config.HasField("sequence_batching")
        texts(client)
        one = unary(client, 10)
        assert np.ptp(one) > 0
        for other in (unary(client, "10"), *streamed(client), asyncio.run(aio(address))):
            np.testing.assert_allclose(other, one, atol=1e-6)
        alone = score(client.infer(VAD, audio(NOISE[-1])))
        assert abs(alone - one[-1]) > 1e-6
        unknown(client)
    print("all well")


if __name__ == "__main__":
    main(sys.argv[1])
