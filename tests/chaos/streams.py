"""Streams that good clients take up again where they broke, and what they should say."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio

from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.oip.v1 import grpc_service_pb2 as oip
from maas.oip.v1.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from services.runtime.oip_stream import STRICT
from tests.chaos.asks import FRESH, Ask, same
from tests.chaos.tally import Tally
from tests.service.generation import free
from tests.service.streams import read_on, reason, resuming, whole

STREAM_S = 60.0
PAUSE_S = 0.1  # before what broke is taken up again
TOLD = 40  # tokens of a stream
STREAMED = 6


@dataclass
class Streams:
    """Over one channel; `answers` are those of `asks`, by their index, `streams` those of text, by their seed."""

    channel: aio.Channel
    areas: Sequence[str]
    asks: Sequence[Ask]
    draw: random.Random
    tally: Tally = field(default_factory=Tally)
    answers: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, Any] = field(default_factory=dict)

    async def learn(self) -> None:
        """Each answer, once, before anything is at fault."""
        for index, ask in enumerate(self.asks):
            self.answers[index] = await ask.answer(self.channel, STREAM_S, fresh=True)
        if "generation" in self.areas:
            stub = GenerationServiceStub(self.channel)
            for seed in range(STREAMED):
                unary = generation.GenerateRequest(**_told(seed))
                self.streams[seed] = (await stub.Generate(unary, timeout=STREAM_S)).completions

    async def text_stream(self) -> str:
        """Taken up again after the last message that arrived, or where the record ends."""
        stub, seed = GenerationServiceStub(self.channel), self.draw.randrange(STREAMED)
        found: list[Any] = []
        request = generation.GenerateStreamRequest(**_told(seed))
        while not (found and found[-1].HasField("usage")):
            asked = resuming(found[0].stream_id, found[-1].sequence_number) if found else request
            try:
                await read_on(stub.GenerateStream(asked, timeout=STREAM_S, metadata=FRESH), found)
            except aio.AioRpcError as error:
                await self._broken(error, StatusCode.FAILED_PRECONDITION)
                if error.code() is StatusCode.FAILED_PRECONDITION:
                    del found[int(reason(error)[1]["last_sequence_number"]) :]
        for mine, theirs in zip(whole(found).values(), self.streams[seed], strict=True):
            self._check(theirs.text, mine.text)
            self._check(theirs.token_ids, mine.token_ids)
        return "answered"

    async def token_stream(self) -> str:
        stub = TokenizationServiceStub(self.channel).TokenizeStream
        return await self._each(stub, tokenization.TokenizeRequest, tokenization.TokenizeStreamRequest)

    async def picture_stream(self) -> str:
        stub = VisionServiceStub(self.channel).ClassifyStream
        return await self._each(stub, vision.ClassifyRequest, vision.ClassifyStreamRequest)

    async def _each(self, stub: Any, unary: Any, streamed: Any) -> str:
        """A request a message; those without a reply when it breaks are sent again."""
        wanted = self._all(unary)
        while wanted:
            try:
                requests = _given(streamed(request=self.asks[index].request) for index in list(wanted))
                async for reply in stub(requests, timeout=STREAM_S):
                    self._check(self.answers[wanted.pop(0)], reply.response)
            except aio.AioRpcError as error:
                await self._broken(error)
        return "answered"

    async def fan_out_stream(self) -> str:
        index = self._one(gateway.FanOutRequest)
        wanted, found = list(self.asks[index].request.calls), {}
        stub = GatewayServiceStub(self.channel)
        while wanted:
            try:
                request = gateway.FanOutStreamRequest(calls=wanted)
                async for reply in stub.FanOutStream(request, timeout=STREAM_S):
                    found[reply.result.id] = reply.result
            except aio.AioRpcError as error:
                await self._broken(error)
            wanted = [call for call in wanted if call.id not in found]
        self._check(self.answers[index].results, [found[one.id] for one in self.answers[index].results])
        return "answered"

    async def pipeline_stream(self) -> str:
        index = self._one(gateway.RunPipelineRequest)
        expected = {one.id: one for one in self.answers[index].results}
        request = gateway.RunPipelineStreamRequest(steps=self.asks[index].request.steps)
        stub = GatewayServiceStub(self.channel)
        while True:
            try:
                found = [one.result async for one in stub.RunPipelineStream(request, timeout=STREAM_S)]
            except aio.AioRpcError as error:
                await self._broken(error)
                continue
            assert sorted(one.id for one in found) == sorted(expected), f"{found}"
            self._check([expected[one.id] for one in found], found)
            return "answered"

    async def detokenize_stream(self) -> str:
        """One id a message; its text is known by no part of it, so a broken one is asked whole."""
        index = self._one(tokenization.DetokenizeRequest)
        ids = self.asks[index].request.sequences[0].values
        stub = TokenizationServiceStub(self.channel)
        while True:
            try:
                requests = _given(tokenization.DetokenizeStreamRequest(ids=[one]) for one in ids)
                found = [one.text_delta async for one in stub.DetokenizeStream(requests, timeout=STREAM_S)]
            except aio.AioRpcError as error:
                await self._broken(error)
                continue
            self._check(self.answers[index].texts[0], "".join(found))
            return "answered"

    async def infer_stream(self) -> str:
        stub, wanted = GRPCInferenceServiceStub(self.channel), self._all(oip.ModelInferRequest)
        while wanted:
            try:
                requests = _given(self.asks[index].request for index in list(wanted))
                call = stub.ModelStreamInfer(requests, timeout=STREAM_S, metadata=((STRICT, "true"),))
                async for reply in call:
                    assert not reply.error_message, reply.error_message
                    del reply.infer_response.parameters["triton_final_response"]  # told in streams only
                    self._check(self.answers[wanted.pop(0)], reply.infer_response)
            except aio.AioRpcError as error:
                await self._broken(error)
        return "answered"

    def _all(self, kind: Any) -> list[int]:
        return [index for index, one in enumerate(self.asks) if isinstance(one.request, kind)]

    def _one(self, kind: Any) -> int:
        return self.draw.choice(self._all(kind))

    def _check(self, expected: Any, found: Any) -> None:
        assert same(expected, found), f"{str(found)[:400]} instead of {str(expected)[:400]}"

    async def _broken(self, error: aio.AioRpcError, *others: StatusCode) -> None:
        """Only what tells to come again may end a stream."""
        if error.code() not in (StatusCode.UNAVAILABLE, *others):
            raise error
        await self._pause()

    async def _pause(self) -> None:
        self.tally.resumed += 1
        await asyncio.sleep(PAUSE_S)


def _told(seed: int) -> Mapping[str, Any]:
    sampling = {"temperature": 1.0, "seed": seed}
    return {"text": f"the quick brown fox {seed}", "sampling": sampling, "stopping": free(TOLD)}


async def _given(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
