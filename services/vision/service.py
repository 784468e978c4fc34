"""maas.vision.v1.VisionService: convert → predict → convert. Knows no array and no queue."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from grpc import aio

from maas.vision.v1 import vision_pb2, vision_service_pb2, vision_service_pb2_grpc
from services.runtime.context import current, enter
from services.runtime.host import ModelHost
from services.runtime.overlap import overlapped
from services.vision import convert
from services.vision.form import form
from services.vision.model import VisionModel
from services.vision.places import Places
from services.vision.prepare import Picture


class VisionService(vision_service_pb2_grpc.VisionServiceServicer):
    """Pictures in, labels or embeddings out."""

    def __init__(self, host: ModelHost[VisionModel], stream_window: int, stream_images: int) -> None:
        self._host, self._window, self._stream_images = host, stream_window, stream_images

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
            answers = await model.predict(await _read(request.images), current().deadline)
            return convert.embedded(answers, model, request.normalize, request.readable)

    async def Explain(
        self, request: vision_service_pb2.ExplainRequest, context: aio.ServicerContext
    ) -> vision_service_pb2.ExplainResponse:
        """Which pixels of a picture decided."""
        with self._host.lease(request.model, request.version, "vision.classify") as model:
            question = convert.question(request, model)
            picture = await asyncio.to_thread(convert.picture, request.image, "image")
            return convert.explained(await model.explain(picture, question, current().deadline), model)

    async def ClassifyStream(
        self,
        request_iterator: AsyncIterator[vision_service_pb2.ClassifyStreamRequest],
        context: aio.ServicerContext,
    ) -> AsyncIterator[vision_service_pb2.ClassifyStreamResponse]:
        """One reply a request, in order, while the requests overlap; none is refused for want of a place."""
        handle = partial(self._classify_next, Places(self._stream_images))
        async for response in overlapped(request_iterator, handle, self._window):
            yield vision_service_pb2.ClassifyStreamResponse(response=response)

    async def _classify_next(
        self, places: Places, message: vision_service_pb2.ClassifyStreamRequest
    ) -> vision_service_pb2.ClassifyResponse:
        enter(current().part())  # total_ms counts from this request, not the stream
        async with places.hold(len(message.request.images), patient=True):
            return await self._classify(message.request, "request.", patient=True)

    async def _classify(
        self, request: vision_service_pb2.ClassifyRequest, prefix: str = "", patient: bool = False
    ) -> vision_service_pb2.ClassifyResponse:
        with self._host.lease(request.model, request.version, "vision.classify") as model:
            count = convert.top_k(request, model, prefix)
            whole = form(model.recipe.shape).read(request.images, f"{prefix}images")
            if whole is not None:
                outcome = await model.predict_block(whole, current().deadline, patient)
                return convert.classified_rows(outcome, model, count)
            answers = await model.predict(await _read(request.images, prefix), current().deadline, patient)
            return convert.classified(answers, model, count)


async def _read(images: Sequence[vision_pb2.Image], prefix: str = "") -> list[Picture]:
    """On the loop only what costs it nothing."""
    if convert.is_listed(images):
        return await asyncio.to_thread(convert.pictures, images, prefix)
    return convert.pictures(images, prefix)
