"""maas.generation.v1.GenerationService: convert → engine → convert. Knows no tensor and no thread."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from grpc import aio

from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from services.generation import answers, constraint, convert
from services.generation.adapters import Hosted, Models
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.runtime.context import RequestContext, current
from services.runtime.host import ModelHost


class GenerationService(generation_service_pb2_grpc.GenerationServiceServicer):
    """Text, token ids or chat in; text out. A caller that leaves aborts its request."""

    def __init__(self, host: ModelHost[Hosted]) -> None:
        self._models = Models(host)

    async def Generate(
        self, request: generation_service_pb2.GenerateRequest, context: aio.ServicerContext
    ) -> generation_service_pb2.GenerateResponse:
        """All completions at once."""
        async with self._models.lease(request) as model:
            call = current()
            job = await _job(request, model, call)
            with model.open(job, whole=True) as stream:
                found = await answers.collected(stream, job)
            size = answers.size(job, found)
            return await model.prepare(lambda: answers.generated(model, job, found, stream, call), size)

    async def GenerateStream(
        self, request: generation_service_pb2.GenerateStreamRequest, context: aio.ServicerContext
    ) -> AsyncIterator[generation_service_pb2.GenerateStreamResponse]:
        """Tokens as they are chosen."""
        async with self._models.lease(request) as model:
            call = current()
            job = await _job(request, model, call)
            with model.open(job) as stream:
                messages = answers.Messages(model, job, stream, call)
                async with aclosing(answers.pieces(stream, job)) as pieces:
                    async for piece in pieces:
                        yield await model.prepare(partial(messages.message, piece), messages.size(piece))

    async def Score(
        self, request: generation_service_pb2.ScoreRequest, context: aio.ServicerContext
    ) -> generation_service_pb2.ScoreResponse:
        """Log probability of a given text, token by token."""
        async with self._models.lease(request) as model:
            call = current()
            asked = await model.prepare(lambda: convert.scoring(request, model, call), convert.size(request))
            with model.open(asked.job, whole=True) as stream:
                await answers.collected(stream, asked.job)
            tokens = not request.HasField("tokens") or request.tokens
            size = answers.size(asked.job, []) if tokens else 0
            return await model.prepare(lambda: answers.scored(model, asked, stream, tokens, call), size)


async def _job(request: convert.GenerateRequest, model: GenerationModel, call: RequestContext) -> Job:
    """The request, checked, and its grammar."""
    asked = constraint.asked(request.constraint)
    grammar = await model.grammars.compiled(asked) if asked else None
    return await model.prepare(lambda: convert.job(request, model, call, grammar), convert.size(request))
