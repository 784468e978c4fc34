"""What the tests of the cache ask a gateway, and how they wait. Tests nothing."""

import asyncio
from typing import Any

from grpc import aio

from maas.gateway.v1 import gateway_service_pb2, gateway_service_pb2_grpc
from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.tokenization.v1 import tokenization_service_pb2, tokenization_service_pb2_grpc
from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from tests.suite.gateway_fakes import outcome


def picture(data: bytes = b"1234", **more: Any) -> vision_service_pb2.ClassifyRequest:
    return vision_service_pb2.ClassifyRequest(images=[{"encoded": data}], **more)


async def classify(channel: aio.Channel, request: Any = None, control: str = "", **more: Any) -> tuple[str, Any]:
    metadata = (("cache-control", control),) if control else ()
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    return await outcome(stub.Classify(request or picture(), metadata=metadata, **more))


async def rendered_chat(channel: aio.Channel) -> tuple[str, Any]:
    request = tokenization_service_pb2.RenderChatRequest(messages=[{"role": "user", "content": "hi"}])
    return await outcome(tokenization_service_pb2_grpc.TokenizationServiceStub(channel).RenderChat(request))


async def generated(channel: aio.Channel, **prompt: Any) -> tuple[str, Any]:
    request = generation_service_pb2.GenerateRequest(**prompt)
    return await outcome(generation_service_pb2_grpc.GenerationServiceStub(channel).Generate(request))


async def status(channel: aio.Channel) -> Any:
    stub = gateway_service_pb2_grpc.GatewayServiceStub(channel)
    return (await stub.GetStatus(gateway_service_pb2.GetStatusRequest())).cache


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)
