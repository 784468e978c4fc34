"""maas.generation.v1.GenerationService: convert → engine → convert. Knows no tensor and no thread."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

from grpc import aio

from maas.generation.v1 import generation_service_pb2, generation_service_pb2_grpc
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation import answers, convert, jobs
from services.generation.adapters import Hosted, Models
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.generation.resume.record import Header
from services.generation.resume.recorder import Blank, Recorder, Tape
from services.generation.resume.resumer import Message, Resumer, check
from services.runtime.context import current
from services.runtime.errors import Unimplemented
from services.runtime.host import ModelHost


class GenerationService(generation_service_pb2_grpc.GenerationServiceServicer):
    """Text, token ids or chat in; text out. A caller that leaves aborts its request."""

    def __init__(self, host: ModelHost[Hosted], recorder: Recorder | None = None) -> None:
        self._models, self._recorder = Models(host), recorder

    async def Generate(
        self, request: generation_service_pb2.GenerateRequest, context: aio.ServicerContext
    ) -> generation_service_pb2.GenerateResponse:
        """All completions at once."""
        async with self._models.lease(request) as model:
            call = current()
            job = await jobs.made(request, model, call)
            with model.open(job, whole=True) as stream:
                found = await answers.collected(stream, job)
            size = answers.size(job, found)
            return await model.prepare(lambda: answers.generated(model, job, found, stream, call), size)

    async def GenerateStream(
        self, request: generation_service_pb2.GenerateStreamRequest, context: aio.ServicerContext
    ) -> AsyncIterator[generation_service_pb2.GenerateStreamResponse]:
        """Tokens as they are chosen; with `resume`, the rest of a stream that broke."""
        opened = self._resumed(request) if request.HasField("resume") else self._begun(request)
        async with aclosing(opened) as messages:
            async for message in messages:
                yield message

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

    async def _begun(self, request: service_pb.GenerateStreamRequest) -> AsyncGenerator[Message, None]:
        async with self._models.lease(request) as model:
            call = current()
            job = await jobs.made(request, model, call)
            with model.open(job) as stream:
                tape = await self._tape(request, job, model)
                messages = answers.Messages(model, job, stream, call, tape.stream_id)
                async with aclosing(answers.pieces(stream, job)) as pieces:
                    async for piece in pieces:
                        message = await model.prepare(partial(messages.message, piece), messages.size(piece))
                        tape.tell(message)
                        yield message
        await tape.finish()

    async def _tape(self, request: service_pb.GenerateStreamRequest, job: Job, model: GenerationModel) -> Tape:
        if self._recorder is None:
            return Blank()
        made = partial(Header.of, request, job, model.manifest, model.digest)
        header = await model.prepare(made, convert.size(request))
        return self._recorder.record(current().tenant, header)

    def _resumed(self, request: service_pb.GenerateStreamRequest) -> AsyncGenerator[Message, None]:
        check(request)
        if self._recorder is None:
            raise Unimplemented("resume: this server records no streams; set MAAS_REDIS_URL, or ask again")
        return Resumer(self._models, self._recorder).stream(request, current())
