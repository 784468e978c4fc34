"""ClassifyStream: order, errors, places, callers who leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import torch
from grpc import aio

from maas.vision.v1 import vision_pb2, vision_service_pb2
from services.runtime.floor import Floor
from services.runtime.store.store import ModelStore
from services.vision.__main__ import build
from services.vision.settings import VisionSettings
from tests.harness import heard, running
from tests.service.vision.calls import Stub, classify, encoded, refusal, settings


async def test_a_stream_answers_in_order(stub: Stub) -> None:
    sizes = [20, 1, 1, 7, 1, 1, 1, 3, 1, 1, 1, 1]
    requests = [classify(encoded(*range(n, n + size)), top_k=10) for n, size in enumerate(sizes)]
    messages = [vision_service_pb2.ClassifyStreamRequest(request=request) for request in requests]
    streamed = [reply.response async for reply in stub.ClassifyStream(iter(messages))]
    assert [len(reply.results) for reply in streamed] == sizes
    unary = [await stub.Classify(request) for request in requests]
    for one, other in zip(streamed, unary, strict=True):
        assert one.results[0].labels[0].index == other.results[0].labels[0].index


async def test_the_first_error_ends_the_stream_after_the_replies_before_it(stub: Stub) -> None:
    good = vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(*range(16))))
    bad = vision_service_pb2.ClassifyStreamRequest(request=classify([vision_pb2.Image(encoded=b"?")]))
    got: list[object] = []

    async def read() -> None:
        async for reply in heard(stub.ClassifyStream(iter([good, good, bad, good]))):
            got.append(reply)  # noqa: PERF401 (the list must keep what came before the error)

    code, _, violations = await refusal(read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT and list(violations) == ["request.images[0].encoded"]
    assert len(got) == 2


async def test_streams_wait_for_places_that_single_calls_are_refused(
    store: ModelStore, net: torch.nn.Module
) -> None:
    message = vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(*range(64))))

    async def whole(stub: Stub) -> int:
        return len([reply async for reply in stub.ClassifyStream(iter([message] * 6))])

    async with running(settings(store, image_queue_limit=64, stream_images=64), build) as (channel, _):
        assert await asyncio.gather(*(whole(Stub(channel)) for _ in range(3))) == [6, 6, 6]


async def test_a_cancelled_stream_leaves_nothing_running(
    stub: Stub, server: tuple[aio.Channel, Floor[VisionSettings]]
) -> None:
    async def endless() -> AsyncIterator[vision_service_pb2.ClassifyStreamRequest]:
        while True:
            yield vision_service_pb2.ClassifyStreamRequest(request=classify(encoded(0)))

    call = stub.ClassifyStream(endless())
    await call.read()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError):
        await call.code()
    while server[1].admission.inside:
        await asyncio.sleep(0.01)
    assert (await stub.Classify(classify(encoded(0)))).results
