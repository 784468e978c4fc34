"""maas.vision.v1.VisionService: convert → predict → convert. Knows no array and no queue."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

from grpc import aio

from maas.vision.v1 import vision_service_pb2, vision_service_pb2_grpc
from services.runtime.context import current, enter
from services.runtime.host import ModelHost
from services.vision import convert
from services.vision.model import VisionModel
from services.vision.overlap import overlapped


class VisionService(vision_service_pb2_grpc.VisionServiceServicer):
    """Pictures in, labels or embeddings out."""

    def __init__(self, host: ModelHost[VisionModel], stream_window: int) -> None:
        self._host, self._window = host, stream_window

    async def Classify(
        self, request: vision_service_pb2.ClassifyRequest, context: aio.ServicerContext
    ) -> vision_service_pb2.ClassifyResponse:
        """The top_k labels of each picture."""
        return await self._classify(request)

    async def Embed(
        self, request: vision_service_pb2.EmbedRequest, context: aio.ServicerContext
    ) -> vision_service_pb2.EmbedResponse:
        """Pooled features of each picture."""
        with self._host.lease(request.model, request.version, "vision.embed") as model:
            answers = await model.predict(convert.pictures(request.images), current().deadline)
            return convert.embedded(answers, model, request.normalize, request.readable)

    async def Explain(
        self, request: vision_service_pb2.ExplainRequest, context: aio.ServicerContext
    ) -> vision_service_pb2.ExplainResponse:
        """Which pixels of a picture decided."""
        with self._host.lease(request.model, request.version, "vision.classify") as model:
            question = convert.question(request, model)
            picture = convert.picture(request.image, "image")
            return convert.explained(await model.explain(picture, question, current().deadline), model)

    async def ClassifyStream(
        self,
        request_iterator: AsyncIterator[vision_service_pb2.ClassifyStreamRequest],
        context: aio.ServicerContext,
    ) -> AsyncIterator[vision_service_pb2.ClassifyStreamResponse]:
        """One reply a request, in order, while the requests overlap."""
        async for response in overlapped(request_iterator, self._classify_next, self._window):
            yield vision_service_pb2.ClassifyStreamResponse(response=response)

    async def _classify_next(
        self, message: vision_service_pb2.ClassifyStreamRequest
    ) -> vision_service_pb2.ClassifyResponse:
        enter(replace(current(), started=time.monotonic()))  # total_ms counts from this request, not the stream
        return await self._classify(message.request, "request.")

    async def _classify(
        self, request: vision_service_pb2.ClassifyRequest, prefix: str = ""
    ) -> vision_service_pb2.ClassifyResponse:
        with self._host.lease(request.model, request.version, "vision.classify") as model:
            count = convert.top_k(request, model, prefix)
            answers = await model.predict(convert.pictures(request.images, prefix), current().deadline)
            return convert.classified(answers, model, count)
