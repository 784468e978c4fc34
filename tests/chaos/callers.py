"""Good clients: they wait for their deadline, resume what broke, and know the right answers."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio

from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.generation.v1 import generation_service_pb2 as generation
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from maas.tokenization.v1 import tokenization_service_pb2 as tokenization
from maas.tokenization.v1.tokenization_service_pb2_grpc import TokenizationServiceStub
from maas.vision.v1 import vision_service_pb2 as vision
from maas.vision.v1.vision_service_pb2_grpc import VisionServiceStub
from tests.chaos.asks import FRESH, Ask, same
from tests.chaos.tally import Tally
from tests.service.generation import free
from tests.service.sequence.calls import FRAMES
from tests.service.sequence.replicas import Broken, Caller
from tests.service.streams import read_on, reason, resuming, whole

DEADLINE_S = 20.0
STREAM_S = 60.0
THOUGHT_S = 0.06  # between two calls
PAUSE_S = 0.1  # before what broke is taken up again
TOLD = 40  # tokens of a stream
STREAMED = 6
FRAMES_SAID = 40

Kind = Callable[[], Awaitable[str]]


@dataclass
class Callers:
    """Over one channel. `learn` takes the answers before anything is at fault."""

    channel: aio.Channel
    areas: Sequence[str]
    asks: Sequence[Ask]
    draw: random.Random
    tally: Tally = field(default_factory=Tally)
    answers: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, Any] = field(default_factory=dict)
    scores: list[list[float]] = field(default_factory=list)

    async def learn(self) -> None:
        """Each answer, once; and of a session that never broke."""
        for index, ask in enumerate(self.asks):
            self.answers[index] = await ask.answer(self.channel, STREAM_S, fresh=True)
        if "generation" in self.areas:
            stub = GenerationServiceStub(self.channel)
            for seed in range(STREAMED):
                unary = generation.GenerateRequest(**_told(seed))
                self.streams[seed] = (await stub.Generate(unary, timeout=STREAM_S)).completions
        if "sequence" in self.areas:
            self.scores = await self._session()

    async def work(self, until: Callable[[], bool]) -> None:
        """One caller: call after call."""
        kinds = self._kinds()
        while not until():
            kind, within_s = self.draw.choice(kinds)
            await self.tally.end(kind.__name__, kind, within_s)
            await asyncio.sleep(self.draw.uniform(0, THOUGHT_S))

    def _kinds(self) -> list[tuple[Kind, float]]:
        streams = [self.fan_out_stream, self.pipeline_stream]
        streams += [self.token_stream] if "tokenization" in self.areas else []
        streams += [self.picture_stream] if "vision" in self.areas else []
        streams += [self.session, self.session, self.single_steps] if "sequence" in self.areas else []
        streams += [self.text_stream] * 3 if "generation" in self.areas else []
        unary = [self.ask] * len(streams) * 2 + [self.leave, self.err]
        return [*((one, STREAM_S) for one in streams), *((one, DEADLINE_S) for one in unary)]

    async def ask(self) -> str:
        index = self.draw.randrange(len(self.asks))
        reply = await self.asks[index].answer(self.channel, DEADLINE_S, fresh=self.draw.random() < 0.7)
        self._check(self.answers[index], reply)
        return "answered"

    async def leave(self) -> str:
        """The caller changes its mind, sooner or later."""
        ask = self.draw.choice(self.asks)
        call = asyncio.ensure_future(ask.answer(self.channel, DEADLINE_S, fresh=True))
        await asyncio.sleep(self.draw.random() * 0.03)
        call.cancel()
        done, _ = await asyncio.wait([call])
        return "cancelled" if call.cancelled() else str([one.result() for one in done] and "answered")

    async def err(self) -> str:
        """What no server should do."""
        try:
            await GatewayServiceStub(self.channel).FanOut(gateway.FanOutRequest(), timeout=DEADLINE_S)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.INVALID_ARGUMENT:
                raise
            return "refused"
        raise AssertionError("an empty fan-out was taken")

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
        wanted = [index for index, ask in enumerate(self.asks) if isinstance(ask.request, unary)]
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

    async def session(self) -> str:
        self._check(self.scores, await self._session())
        return "answered"

    async def _session(self) -> list[list[float]]:
        """Outputs of a whole session, resumed wherever it broke."""
        caller = Caller(FRAMES[:FRAMES_SAID], secrets.token_hex(8))
        stub = SequenceServiceStub(self.channel)
        while len(caller.heard) < caller.total:
            try:
                call = await caller.talk(stub, caller.total, ahead=8)
                call.cancel()
            except Broken:
                await self._pause()
            except aio.AioRpcError as error:
                await self._broken(error)
        return caller.scores

    async def single_steps(self) -> str:
        """Unary, yet of a state: a step whose answer got lost is sent again, and those that were not kept."""
        caller = Caller(FRAMES[:8], secrets.token_hex(8))
        stub = SequenceServiceStub(self.channel)
        opening = sequence_pb2.OpenSession(session_id=caller.session_id)
        number = 1
        while number <= caller.total:
            first = {"open": opening, "session_id": ""} if number == 1 else {}
            try:
                await caller.step_once(stub, number, **first)
                number += 1
            except aio.AioRpcError as error:
                # Redis was slow, and another replica knows no more than it kept: told by `checkpointed_step`.
                lost = StatusCode.NOT_FOUND if caller.safe is None else StatusCode.INVALID_ARGUMENT
                await self._broken(error, lost)
                number = (caller.safe or 0) + 1 if error.code() is lost else number
        self._check(self.scores[: caller.total], caller.scores)
        return "answered"

    def _one(self, kind: Any) -> int:
        return self.draw.choice([index for index, one in enumerate(self.asks) if isinstance(one.request, kind)])

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
