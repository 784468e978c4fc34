"""A broken stream goes on: what was recorded is told again, the rest is generated. Knows no Redis and no gRPC.

The rest is what the broken stream would have told, as tokens are a function of request, seed and model; only where
messages begin and end is chance. So whoever goes on tells a message when it stands in the record: of several that
go on with one stream the first decides what a sequence number means, and the others follow.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from services.generation import answers, convert, jobs
from services.generation.adapters import Models
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.generation.resume import rest
from services.generation.resume.record import Header, Record, unreadable
from services.generation.resume.recorder import Recorder
from services.generation.resume.store import key_of
from services.generation.resume.told import Told
from services.runtime.context import RequestContext
from services.runtime.errors import (
    InvalidInput,
    ModelNotFound,
    NotFound,
    PreconditionFailed,
    Unavailable,
    Unimplemented,
)
from services.runtime.redis_link import NoAnswer

Message = service_pb.GenerateStreamResponse

# A process that lives has written by then what it told, also when Redis was slow to take it.
LATE_S, LOOK_S = 2.0, 0.05
# A record that grows is somebody's who still tells it, and is followed; one that rests for so long is taken over.
# Longer than a recorder waits: what was told before somebody left must stand before others go on.
QUIET_S = 0.15
RETRY_AFTER_S = 1.0


class Resumer:
    """Continues the streams that `recorder`s of any process recorded in the same place."""

    def __init__(self, models: Models, recorder: Recorder) -> None:
        self._models, self._recorder = models, recorder

    async def stream(
        self, request: service_pb.GenerateStreamRequest, call: RequestContext
    ) -> AsyncGenerator[Message, None]:
        """The messages after the one that `request.resume` names."""
        check(request)
        wanted, told = request.resume, Told()
        record = await self._found(wanted, call)
        self._recorder.count("resumed")
        while True:
            for message in record.messages[told.number :]:
                told.take(message)
                if message.sequence_number > wanted.after_sequence_number:
                    yield message
            if told.finished:
                return
            await asyncio.sleep(QUIET_S)
            before, record = record, await self._read(wanted.stream_id, call)
            if record.entries == before.entries:
                break
        async with aclosing(self._rest(wanted.stream_id, record, told, call)) as messages:
            async for message in messages:
                yield message

    async def _found(self, wanted: pb.Resume, call: RequestContext) -> Record:
        """The record; waits a moment where it is not there yet, or does not reach as far as the caller says."""
        end = time.monotonic() + LATE_S
        while True:
            try:
                record = await self._read(wanted.stream_id, call)
                _require(record, wanted.after_sequence_number)
                return record
            except (NotFound, PreconditionFailed) as error:
                final = error.reason not in ("STREAM_NOT_FOUND", "RECORD_ENDS")
                if final or time.monotonic() >= end:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _read(self, stream_id: str, call: RequestContext) -> Record:
        try:
            return await self._recorder.store.read(key_of(call.tenant, stream_id), stream_id)
        except NoAnswer:
            raise Unavailable(
                "resume: the store of records does not answer; retry",
                reason="RECORDS_UNAVAILABLE",
                retry_after_s=RETRY_AFTER_S,
            ) from None

    async def _rest(
        self, stream_id: str, record: Record, told: Told, call: RequestContext
    ) -> AsyncGenerator[Message, None]:
        async with self._lease(record.header) as model:
            size = convert.size(record.header.request) + told.total
            job = await _job(record.header, model, told, call)
            base = rest.base(job, told)
            left = await model.prepare(lambda: rest.sequences(job, base, model), size)
            with model.worker.open(left) as stream:
                messages = answers.Messages(model, job, stream, call, stream_id)
                pieces = answers.pieces(stream, job, base.begun)
                async with aclosing(self._agreed(record, told, messages, pieces)) as agreed:
                    async for message in agreed:
                        yield message

    async def _agreed(
        self, record: Record, told: Told, messages: answers.Messages, pieces: AsyncGenerator[answers.Piece, None]
    ) -> AsyncGenerator[Message, None]:
        """Each message once it stands in the record: ours, or another's that was there first."""
        stream_id, call = messages.stream_id, messages.call
        recording = self._recorder.goes_on(call.tenant, stream_id, record)
        made = rest.Rest(rest.base(messages.job, told))
        async with aclosing(pieces):
            async for piece in pieces:
                made.take(piece)
                while left := made.untold(piece.index, told):
                    messages.go_on(told.number, len(told.ended), told.total)
                    ours = await messages.model.prepare(partial(messages.message, left), messages.size(left))
                    standing: Sequence[Message] = [ours]
                    if not await recording.settle(ours):
                        record = await self._read(stream_id, call)
                        recording = self._recorder.goes_on(call.tenant, stream_id, record)
                        standing = record.messages[told.number :]
                    if not standing:
                        raise unreadable()
                    for message in standing:
                        told.take(message)
                        yield message
                    if told.finished:
                        return

    @asynccontextmanager
    async def _lease(self, header: Header) -> AsyncIterator[GenerationModel]:
        async with AsyncExitStack() as stack:
            try:
                model = await stack.enter_async_context(self._models.lease(header.request))
            except ModelNotFound as error:
                raise _changed(header, "which is not served here any more") from error
            yield model


def check(request: service_pb.GenerateStreamRequest) -> None:
    """Raises InvalidInput unless `resume` stands alone and names a stream."""
    if not request.resume.stream_id:
        raise InvalidInput("resume.stream_id", "is empty; set it to the stream_id of the stream's first message")
    for field, _ in request.ListFields():
        if field.name != "resume":
            raise InvalidInput(
                field.name, "is set together with resume, which repeats the first request; leave it unset"
            )


async def _job(header: Header, model: GenerationModel, told: Told, call: RequestContext) -> Job:
    """The job as it was. PreconditionFailed if the model is not what it was."""
    if model.digest != header.digest:
        raise _changed(header, f"which is {model.digest} here now")
    if "resume" not in model.worker.capabilities:
        raise Unimplemented("resume: this model's engine cannot go on with a stream; ask again from the start")
    try:
        job = await jobs.made(header.request, model, call)
    except InvalidInput as error:
        raise _changed(header, f"which does not take the request here ({error.message})") from error
    if job.request.stopping.max_tokens != header.request.stopping.max_tokens:
        raise _changed(header, f"whose context is {model.context} here")
    # The first message has told them.
    scores = None if told.number else job.request.prompt_logprobs
    return replace(job, request=replace(job.request, prompt_logprobs=scores))


def _changed(header: Header, how: str) -> PreconditionFailed:
    request = header.request
    return PreconditionFailed(
        f"resume.stream_id: the stream was made by {request.model}/{request.version} ({header.digest}), {how}; "
        "ask again from the start",
        reason="MODEL_CHANGED",
    )


def _require(record: Record, after: int) -> None:
    """Raises PreconditionFailed unless the record reaches as far as `after`."""
    last = len(record.messages)
    if after > last:
        raise PreconditionFailed(
            f"resume.after_sequence_number: is {after}, the record of this stream ends with {last}; "
            f"resume after {last} and drop what came later",
            reason="RECORD_ENDS",
            metadata={"last_sequence_number": str(last)},
        )
