"""Callers who leave, a great many of them, leave nothing behind: no task, future, lock or call of the gateway."""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from grpc import aio

from maas.gateway.v1 import gateway_service_pb2 as gateway_pb
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.vision.v1.vision_service_pb2 import ClassifyRequest
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from tests.suite.gateway_fakes import Running, behind, gateway

CALLS = 300
AT_ONCE = 20
# Less than the calls of one kind; more than a stream to a service, which may be opened in between, is made of.
FEW = 30
FRESH = (("cache-control", "no-store"),)
# What one call is made of, in asyncio and in grpc.aio, client and server side.
KINDS = ("Task", "Future", "Event", "Lock", "Queue", "Timeout", "UnaryUnaryCall", "UnaryStreamCall", "_AioCall")
KINDS += ("RPCState", "_ServicerContext", "_MessageReceiver", "RequestContext", "async_generator", "coroutine")


def kinds(channel: aio.Channel) -> list[Callable[[int], Any]]:
    """One call each, its request by number."""
    vision, text, front = VisionServiceStub(channel), GenerationServiceStub(channel), GatewayServiceStub(channel)

    def picture(number: int) -> ClassifyRequest:
        return ClassifyRequest(images=[{"encoded": number.to_bytes(4, "little")}])

    def together(number: int) -> gateway_pb.FanOutRequest:
        calls = [{"id": str(one), "classify_image": picture(number + one)} for one in range(3)]
        return gateway_pb.FanOutRequest(calls=calls)

    return [
        lambda number: vision.Classify(picture(number), metadata=FRESH),
        lambda number: vision.Classify(picture(number % 7)),
        lambda number: text.GenerateStream(generation.GenerateStreamRequest(text="abc"), metadata=FRESH),
        lambda number: text.GenerateStream(generation.GenerateStreamRequest(text=f"abc{number % 7}")),
        lambda number: front.FanOut(together(number)),
    ]


async def storm(channel: aio.Channel, found: list[Running], draw: random.Random) -> None:
    """Calls whose callers leave sooner or later, while the services answer at times and at times hold still."""
    made, numbers = kinds(channel), iter(range(CALLS))

    async def hold_still() -> None:
        while True:
            for one in found:
                (one.what.gate.clear if one.what.gate.is_set() else one.what.gate.set)()
            await asyncio.sleep(0.01)

    async def leave() -> None:
        for number in numbers:
            call = draw.choice(made)(number)
            await asyncio.sleep(draw.random() * 0.1)
            call.cancel()
            with suppress(asyncio.CancelledError, aio.AioRpcError):
                await call.code()

    holding = asyncio.create_task(hold_still())
    await asyncio.gather(*(leave() for _ in range(AT_ONCE)))
    holding.cancel()
    for one in found:
        one.what.gate.set()


def counted() -> Counter[str]:
    """Objects of each kind that are reached from anywhere."""
    for _ in range(3):
        gc.collect()
    names = Counter(type(one).__name__ for one in gc.get_objects())
    return Counter({kind: names[kind] for kind in KINDS})


async def test_a_storm_of_cancels_leaves_nothing_behind() -> None:
    async with gateway(behind("vision"), behind("generation")) as (channel, found):
        draw = random.Random(4)
        await storm(channel, found, draw)
        await asyncio.sleep(0.5)
        before = counted()
        await storm(channel, found, draw)
        async with asyncio.timeout(20):
            # Calls that are still on their way out end soon.
            while any(number > before[kind] + FEW for kind, number in counted().items()):
                await asyncio.sleep(0.2)
