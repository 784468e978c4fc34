"""maas.sequence.v1.SequenceService: convert → compute → convert. Knows no tensors and no sessions' rules."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from grpc import aio

from maas.common.v1.tensor_pb2 import SeriesBatch
from maas.sequence.v1 import sequence_service_pb2 as pb
from maas.sequence.v1 import sequence_service_pb2_grpc
from services.runtime.host import ModelHost
from services.sequence import compute, conversation, convert, convert_explain, convert_series
from services.sequence.models import spread
from services.sequence.models.predict import embed_series, predict_series
from services.sequence.settings import SequenceSettings
from services.sequence.stepping import Sessions
from services.sequence.tensor_model import TensorModel

P = ParamSpec("P")
T = TypeVar("T")

# Series up to this size are read on the event loop: some tenths of a millisecond.
READ_HERE_BYTES = 128 * 1024


class SequenceService(sequence_service_pb2_grpc.SequenceServiceServicer):
    """`pool` reads requests (tokenizing, frames) and writes long replies so that the event loop does not."""

    def __init__(
        self, host: ModelHost[TensorModel], sessions: Sessions, pool: Executor, settings: SequenceSettings
    ) -> None:
        self._host, self._sessions = host, sessions
        self._pool, self._settings = pool, settings

    async def Classify(self, request: pb.ClassifyRequest, context: aio.ServicerContext) -> pb.ClassifyResponse:
        if request.HasField("series"):
            return await self._classify_series(request)
        default = self._settings.text_classify_model
        with self._host.lease(request.model or default, request.version, "sequence.classify") as model:
            convert.check_asked(model, request)
            rows = await self._read(convert.rows, model, request)
            return convert.classified_rows(model, request, await compute.answer_rows(model, rows))

    async def _classify_series(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        """A net with memory between steps hears a stream; any other reads the series as a whole."""
        with self._host.lease(request.model, request.version, "sequence.classify") as model:
            convert.check_asked(model, request)
            if model.net.state_specs:
                streams = await self._read_series(convert.streams, model, request.series)
                return convert.classified_streams(model, request, await compute.listen(model, streams))
            rows = await self._read_series(convert_series.series_rows, model, request.series)
            return convert.classified_rows(model, request, await compute.answer_rows(model, rows, predict_series))

    async def Embed(self, request: pb.EmbedRequest, context: aio.ServicerContext) -> pb.EmbedResponse:
        with self._host.lease(request.model, request.version, "sequence.embed") as model:
            if request.HasField("series"):
                series = await self._read_series(convert_series.series_rows, model, request.series)
                return convert.embedded(
                    model, request, series, await compute.answer_rows(model, series, embed_series)
                )
            rows = await self._read(convert.rows, model, request, request.truncate)
            return convert.embedded(model, request, rows, await compute.answer_rows(model, rows))

    async def Transduce(self, request: pb.TransduceRequest, context: aio.ServicerContext) -> pb.TransduceResponse:
        with self._host.lease(request.model, request.version, "sequence.transduce") as model:
            words = await self._read(convert.words, model, request.texts)
            outcome = await compute.answer_rows(model, [word for text in words for word in text])
            return await self._read(convert.transduced, model, words, outcome)

    async def Forecast(self, request: pb.ForecastRequest, context: aio.ServicerContext) -> pb.ForecastResponse:
        with self._host.lease(request.model, request.version, "sequence.forecast") as model:
            window = await self._read(convert_series.window, model, request)
            outcome = await compute.foresee(model, window, request.horizon_steps)
            if not request.quantiles:
                return convert_series.forecast(model, outcome)
            errors = convert_series.errors(model)
            drawn = await self._read(spread.draw, len(errors), request.horizon_steps)
            paths = await compute.stray(model, window, errors, drawn)
            both = compute.total(outcome.value, [outcome, paths])
            return await self._read(convert_series.with_quantiles, model, request.quantiles, both, paths.value)

    async def Explain(self, request: pb.ExplainRequest, context: aio.ServicerContext) -> pb.ExplainResponse:
        default = "" if request.HasField("series") else self._settings.text_classify_model
        with self._host.lease(request.model or default, request.version, "sequence.classify") as model:
            question = convert_explain.question(model, request)
            part = await self._read(convert_explain.part, model, request)
            return convert_explain.explained(model, part, await model.explain(part, question))

    async def StepSession(
        self, request: pb.StepSessionRequest, context: aio.ServicerContext
    ) -> pb.StepSessionResponse:
        return await conversation.single(self._sessions, request)

    def RunSession(
        self, request_iterator: AsyncIterator[pb.RunSessionRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.RunSessionResponse]:
        return conversation.converse(self._sessions, request_iterator)

    async def _read_series(
        self, function: Callable[[TensorModel, SeriesBatch], T], model: TensorModel, batch: SeriesBatch
    ) -> T:
        """Reading a few numbers takes less of everybody's time than handing them to another thread and back."""
        if batch.ByteSize() <= READ_HERE_BYTES:
            return function(model, batch)
        return await self._read(function, model, batch)

    async def _read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        work, loop = partial(copy_context().run, function, *args, **kwargs), asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work)
