"""Run by test_oip: argv = address. Every rule that needs no real model, by tritonclient."""

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([[b"", b"\x00\xff", "日本".encode(), b"x" * 300]], dtype=np.object_)
    return np.array([[0, 1, 2, 3.5], [1, 0, 1.5, 7]]).astype(DTYPES[datatype])


def tensor(array: np.ndarray, datatype: str) -> triton.InferInput:
    return triton.InferInput("x", list(array.shape), datatype).set_data_from_numpy(array)


def refused(call: Any, status: str, words: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
        assert words in error.message(), error
    else:
        raise AssertionError(f"not refused: {words}")


def every_datatype(client: triton.InferenceServerClient) -> None:
    for datatype in DTYPES:
        array = sample(datatype)
        result = client.infer(f"same-{datatype.lower()}", [tensor(array, datatype)], request_id=datatype)
        np.testing.assert_array_equal(result.as_numpy("y"), array)
        np.testing.assert_array_equal(result.as_numpy("z"), array[:, :1])
        assert result.get_response().id == datatype
    print("datatypes", len(DTYPES))


def outputs_and_classes(client: triton.InferenceServerClient) -> None:
    array = np.array([[0.1, 0.5, 0.25, 0.5], [4, 3, 2, 1]], np.float32)
    given = [tensor(array, "FP32")]
    only = client.infer("same-fp32", given, outputs=[triton.InferRequestedOutput("z")])
    assert [output.name for output in only.get_response().outputs] == ["z"]
    assert only.as_numpy("y") is None
    best = client.infer("same-fp32", given, outputs=[triton.InferRequestedOutput("y", class_count=3)])
    assert best.as_numpy("y").tolist() == [
        [b"0.500000:1:bee", b"0.500000:3", b"0.250000:2:cat"],
        [b"4.000000:0:ant", b"3.000000:1:bee", b"2.000000:2:cat"],
    ]
    whole = client.infer("same-int8", [tensor(sample("INT8"), "INT8")], outputs=[_classes("y", 99)])
    assert whole.as_numpy("y").shape == (2, 4) and whole.as_numpy("y")[0, 0] == b"3:3"


def _classes(name: str, count: int) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput(name, class_count=count)


def what_is_refused(client: triton.InferenceServerClient) -> None:
    given = [tensor(sample("FP32"), "FP32")]
    infer = partial(client.infer, "same-fp32", given)
    refused(partial(client.infer, "nope", given), "NOT_FOUND", "nope")
    refused(partial(infer, model_version="7"), "NOT_FOUND", "7")
    refused(partial(infer, model_version="stable"), "INVALID_ARGUMENT", "not an integer")
    refused(partial(infer, outputs=[triton.InferRequestedOutput("q")]), "INVALID_ARGUMENT", "q")
    refused(partial(infer, priority=1), "UNIMPLEMENTED", "priority")
    refused(partial(infer, sequence_id=5, sequence_start=True), "INVALID_ARGUMENT", "sequence_id")
    refused(partial(client.infer, "same-fp32", []), "INVALID_ARGUMENT", "missing x")
    refused(partial(client.infer, "same-int8", given), "INVALID_ARGUMENT", "INT8")
    shared = triton.InferInput("x", [1, 4], "FP32").set_shared_memory("region", 16)
    refused(partial(client.infer, "same-fp32", [shared]), "UNIMPLEMENTED", "shared memory")
    refused(partial(client.get_system_shared_memory_status), "UNIMPLEMENTED", "")
    refused(partial(client.get_trace_settings), "UNIMPLEMENTED", "")
    many = np.zeros((9, 4), np.float32)
    refused(partial(client.infer, "same-fp32", [tensor(many, "FP32")]), "INVALID_ARGUMENT", "at most 8")
    words = [tensor(sample("BYTES"), "BYTES")]
    refused(partial(client.infer, "same-bytes", words, outputs=[_classes("y", 1)]), "INVALID_ARGUMENT", "numbers")
    refused(partial(client.infer, "broken", given), "INTERNAL", "request id")
    slow = [tensor(np.full((1, 4), 5, np.float32), "FP32")]
    refused(partial(client.infer, "slow", slow, client_timeout=0.2), "DEADLINE_EXCEEDED", "")


def streamed(client: triton.InferenceServerClient, headers: dict[str, str] | None = None) -> list[tuple[Any, Any]]:
    """Three good requests around a bad one; the first takes longest."""
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)), headers=headers)
    for number, (model, seconds) in enumerate([("slow", 0.3), ("same-fp32", 0), ("nope", 0), ("slow", 0.1)]):
        array = np.array([[seconds, number, 0, 0]], np.float32)
        client.async_stream_infer(model, [tensor(array, "FP32")], request_id=str(number))
    client.stop_stream()
    return [told.get_nowait() for _ in range(told.qsize())]


def streams(client: triton.InferenceServerClient) -> None:
    told = streamed(client)
    assert [error is None for _, error in told] == [True, True, False, True]
    assert "nope" in told[2][1].message()
    good = [result for result, error in told if error is None]
    assert [result.get_response().id for result in good] == ["0", "1", "3"]
    assert [result.as_numpy("y")[0, 1] for result in good] == [0, 1, 3]
    assert all(r.get_response().parameters["triton_final_response"].bool_param for r in good)
    strict = streamed(client, {"triton_grpc_error": "true"})
    assert [error is None for _, error in strict] == [True, True, False]
    assert strict[2][1].status() == "StatusCode.NOT_FOUND"


def models(client: triton.InferenceServerClient) -> None:
    index = {model.name: model for model in client.get_model_repository_index().models}
    assert (index["slow"].state, index["slow"].version) == ("READY", "1")
    client.unload_model("slow")
    assert not client.is_model_ready("slow")
    state = {model.name: model.state for model in client.get_model_repository_index().models}["slow"]
    assert state in ("UNLOADING", "UNAVAILABLE"), state
    refused(partial(client.load_model, "nope"), "NOT_FOUND", "nope")
    refused(partial(client.load_model, "slow", config="{}"), "UNIMPLEMENTED", "config")
    client.load_model("slow")
    assert client.is_model_ready("slow") and client.is_model_ready("slow", "1")
    refused(partial(client.is_model_ready, "nope"), "NOT_FOUND", "nope")
    refused(partial(client.is_model_ready, "slow", "2"), "NOT_FOUND", "2")


def what_is_told(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    extensions = set(client.get_server_metadata().extensions)
    assert {"classification", "statistics", "model_repository", "binary_tensor_data"} <= extensions
    assert not extensions & {"sequence", "system_shared_memory", "cuda_shared_memory", "trace", "logging"}
    config = client.get_model_config("same-fp32").config
    assert (config.max_batch_size, config.input[0].data_type, list(config.input[0].dims)) == (8, 11, [4])
    assert config.model_transaction_policy.decoupled is False and config.HasField("dynamic_batching")
    (found,) = client.get_inference_statistics("same-uint8").model_stats
    assert (found.inference_count, found.inference_stats.success.count) == (2, 1)
    assert found.last_inference > 1_600_000_000_000 and found.inference_stats.success.ns > 0
    (broken,) = client.get_inference_statistics("broken").model_stats
    assert (broken.inference_stats.success.count, broken.inference_stats.fail.count) == (0, 1)
    assert len(client.get_inference_statistics().model_stats) == len(client.get_model_repository_index().models)


async def aio(address: str) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_live() and await client.is_model_ready("same-fp64")
        array = sample("FP64")
        result = await client.infer("same-fp64", [tensor(array, "FP64")], request_id="a")
        np.testing.assert_array_equal(result.as_numpy("y"), array)

        async def asked() -> AsyncIterator[dict[str, Any]]:
            for number in range(200):
                row = np.full((1, 4), number, np.float32)
                yield {"model_name": "same-fp32", "inputs": [tensor(row, "FP32")], "request_id": str(number)}

        heard = [(result, error) async for result, error in client.stream_infer(asked())]
        assert [int(result.as_numpy("y")[0, 0]) for result, _ in heard] == list(range(200))
        await _cancelled(client)


async def _cancelled(client: triton_aio.InferenceServerClient) -> None:
    async def endless() -> AsyncIterator[dict[str, Any]]:
        while True:
            row = np.full((1, 4), 0.01, np.float32)
            yield {"model_name": "slow", "inputs": [tensor(row, "FP32")]}

    stream = client.stream_infer(endless())
    await anext(aiter(stream))
    assert stream.cancel()


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        every_datatype(client)
        outputs_and_classes(client)
        what_is_refused(client)
        what_is_told(client)
        streams(client)
        models(client)
    asyncio.run(aio(address))
    print("all well")


if __name__ == "__main__":
    main(sys.argv[1])
