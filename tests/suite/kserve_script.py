"""Run by test_oip_kserve in KServe's environment: argv = address. Real models by KServe's own client."""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput


def pictures(binary: bool, **parameters: object) -> InferRequest:
    given = InferInput("images", [2, 1, 28, 28], "FP32")
    given.set_data_from_numpy(np.random.default_rng(0).random((2, 1, 28, 28)).astype(np.float32), binary)
    wanted = [RequestedOutput("logits")]
    return InferRequest("mnist-cnn", [given], request_id="k1", parameters=parameters, request_outputs=wanted)


def texts(binary: bool) -> InferRequest:
    given = InferInput("text", [2], "BYTES")
    given.set_data_from_numpy(np.array([b"cat", b"computer"], dtype=object), binary)
    return InferRequest("g2p-en", [given])


def frame(start: bool, end: bool) -> InferRequest:
    given = InferInput("audio", [1, 512], "FP32")
    given.set_data_from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 512)).astype(np.float32))
    place = {"sequence_id": 77, "sequence_start": start, "sequence_end": end}
    return InferRequest("silero-vad", [given], parameters=place)


async def digits(client: InferenceGRPCClient) -> None:
    """Raw and typed, and raw asked for by a typed request, tell the same."""
    replies = [await client.infer(pictures(True)), await client.infer(pictures(False))]
    replies.append(await client.infer(pictures(False, binary_data_output=True)))
    for reply in replies:
        assert (reply.id, reply.model_name, [output.name for output in reply.outputs]) == (
            "k1",
            "mnist-cnn",
            ["logits"],
        )
        assert reply.outputs[0].as_numpy().shape == (2, 10)
        np.testing.assert_allclose(reply.outputs[0].as_numpy(), replies[0].outputs[0].as_numpy(), atol=1e-5)


async def words(client: InferenceGRPCClient) -> None:
    for binary in (True, False):
        (output,) = (await client.infer(texts(binary))).outputs
        found = [one if isinstance(one, bytes) else one.encode() for one in output.as_numpy().tolist()]
        assert found == [b"K AE1 T", b"K AH0 M P Y UW1 T ER0"], found


async def speech(client: InferenceGRPCClient) -> None:
    parts = [frame(True, False), frame(False, False), frame(False, True)]
    first, second, third = [float((await client.infer(part)).outputs[0].as_numpy()[0, 0]) for part in parts]
    assert len({first, second, third}) == 3


async def refused(client: InferenceGRPCClient) -> None:
    for request, code in (
        (InferRequest("nope", []), "NOT_FOUND"),
        (InferRequest("g2p-en", []), "INVALID_ARGUMENT"),
    ):
        try:
            await client.infer(request)
        except grpc.RpcError as error:
            assert error.code().name == code, error
        else:
            raise AssertionError(f"not refused: {code}")


async def main(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        which = sys.argv[2]
        if which != "sequence":
            assert await client.is_model_ready("mnist-cnn")
            await digits(client)
        if which != "vision":
            assert await client.is_model_ready("g2p-en")
            await words(client)
            await speech(client)
            await refused(client)
    print("all well")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
