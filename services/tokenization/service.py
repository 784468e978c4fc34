"""The TokenizationService servicer: convert → call → convert. Knows no tokenizer library."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from functools import partial

from grpc import aio

from maas.tokenization.v1 import tokenization_service_pb2 as pb
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceServicer
from services.runtime.host import ModelHost
from services.runtime.text.incremental import IncrementalDecoder
from services.tokenization import answers, convert
from services.tokenization.model import TASK, TokenizationModel
from services.tokenization.pool import Pool


class TokenizationService(TokenizationServiceServicer):
    """Text ↔ token ids with the models of `host`, computed in `pool`."""

    def __init__(self, host: ModelHost[TokenizationModel], pool: Pool) -> None:
        self._host, self._pool = host, pool

    async def Tokenize(self, request: pb.TokenizeRequest, context: aio.ServicerContext) -> pb.TokenizeResponse:
        with self._lease(request) as model:
            order = convert.order(request, model.tokenizer)
            work = partial(answers.encodings, model.words, order, request)
            done = await self._pool.run(work, order.size, len(order.inputs))
            return answers.tokenized(model, done)

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: aio.ServicerContext
    ) -> pb.DetokenizeResponse:
        with self._lease(request) as model:
            work = partial(answers.texts, model.tokenizer, request)
            done = await self._pool.run(work, request.ByteSize(), len(request.sequences))
            return answers.detokenized(model, done)

    async def CountTokens(
        self, request: pb.CountTokensRequest, context: aio.ServicerContext
    ) -> pb.CountTokensResponse:
        with self._lease(request) as model:
            order = convert.count_order(request)
            work = partial(answers.counts, model.words, order)
            done = await self._pool.run(work, order.size, len(order.inputs))
            return answers.counted(model, done)

    async def RenderChat(
        self, request: pb.RenderChatRequest, context: aio.ServicerContext
    ) -> pb.RenderChatResponse:
        with self._lease(request) as model:
            conversation = convert.conversation(request)
            work = partial(answers.chat, model.require_template(), conversation)
            done = await self._pool.run(work, conversation.size)
            return answers.rendered(model, done)

    async def GetTokenizer(
        self, request: pb.GetTokenizerRequest, context: aio.ServicerContext
    ) -> pb.GetTokenizerResponse:
        with self._lease(request) as model:
            return answers.tokenizer_info(model)

    async def TokenizeStream(
        self, request_iterator: AsyncIterator[pb.TokenizeStreamRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.TokenizeStreamResponse]:
        async for message in request_iterator:
            yield pb.TokenizeStreamResponse(response=await self.Tokenize(message.request, context))

    async def DetokenizeStream(
        self, request_iterator: AsyncIterator[pb.DetokenizeStreamRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.DetokenizeStreamResponse]:
        first = await anext(request_iterator, None) or pb.DetokenizeStreamRequest()
        with self._lease(first) as model:
            decoder = IncrementalDecoder(model.tokenizer, convert.skip_special_tokens(first))
            yield await self._push(model, decoder, first)
            async for message in request_iterator:
                convert.require_same_model(first, message)
                yield await self._push(model, decoder, message)
            yield pb.DetokenizeStreamResponse(text_delta=decoder.flush(), finished=True)

    def _lease(self, request: convert.AnyRequest) -> AbstractContextManager[TokenizationModel]:
        return self._host.lease(request.model, request.version, TASK)

    async def _push(
        self, model: TokenizationModel, decoder: IncrementalDecoder, message: pb.DetokenizeStreamRequest
    ) -> pb.DetokenizeStreamResponse:
        work = partial(answers.pushed, model.tokenizer, decoder, message)
        done = await self._pool.run(work, message.ByteSize())
        return pb.DetokenizeStreamResponse(text_delta=done.value)
