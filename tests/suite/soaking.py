"""Callers of a generation service that do what callers do, for as long as wanted; every call has one ending."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field

from grpc import StatusCode, aio

from maas.generation.v1 import generation_pb2 as pb
from maas.generation.v1 import generation_service_pb2 as service_pb
from maas.generation.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.service.generation import Ask, free, joined, streamed

STUCK_S = 60.0
TEXTS = ("the quick brown fox", "héllo 日本語", "the quick brown fox jumps over " * 4, "x" * 150)
OK, FULL = StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED


@dataclass
class Callers:
    """`endings`: by kind of call and status. AssertionError where one ends as it never should, or not at all."""

    stub: GenerationServiceStub
    draw: random.Random
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: dict[bytes, list[str]] = field(default_factory=dict)  # by request, the first time

    async def work(self, until: float) -> None:
        """One caller: call after call until `until`, time.monotonic() seconds."""
        while time.monotonic() < until:
            name, allowed = self.draw.choice(KINDS)
            code = await self._ending(name, getattr(self, name)(self._request()), allowed)
            if code is FULL:
                await asyncio.sleep(0.5)

    async def _ending(self, name: str, call: Coroutine[None, None, None], allowed: set[StatusCode]) -> StatusCode:
        code, details = OK, ""
        try:
            async with asyncio.timeout(STUCK_S):
                await call
        except aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        assert code in allowed, f"{name} ended with {code.name}: {details}"
        self.endings[name, code.name] += 1
        return code

    def _request(self) -> Ask:
        """One of a few hundred, so that each comes many times, at different priorities."""
        draw = self.draw
        sampling = pb.Sampling(
            temperature=draw.choice((0, 0, 1)), seed=draw.randrange(4), n=draw.choice((1, 1, 3))
        )
        return Ask(
            text=draw.choice(TEXTS),
            sampling=sampling,
            stopping=free(draw.choice((4, 40, 200))),
            priority=draw.choice((-1, 0, 0, 0, 1)),
            cache_salt=draw.choice(("", "", "salt")),
        )

    def _check(self, request: Ask, texts: list[str]) -> None:
        """Equal requests, equal texts, whatever went on beside them."""
        asked = Ask.FromString(request.SerializeToString())
        asked.ClearField("priority")
        asked.ClearField("cache_salt")
        first = self.answers.setdefault(asked.SerializeToString(deterministic=True), texts)
        assert texts == first

    async def ask(self, request: Ask) -> None:
        reply = await self.stub.Generate(request)
        self._check(request, [one.text for one in reply.completions])

    async def read(self, request: Ask) -> None:
        messages, whole = await joined(self.stub, request)
        assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
        self._check(request, [whole[index].text for index in sorted(whole)])

    async def read_slowly(self, request: Ask) -> None:
        async for message in self.stub.GenerateStream(streamed(request)):
            await asyncio.sleep(0.01 if message.sequence_number < 50 else 0)

    async def leave(self, request: Ask) -> None:
        call, enough = self.stub.GenerateStream(streamed(request)), self.draw.randrange(6)
        async for message in call:
            if message.sequence_number > enough:
                break
        call.cancel()

    async def leave_at_once(self, request: Ask) -> None:
        call = asyncio.ensure_future(self.stub.Generate(request))
        await asyncio.sleep(self.draw.random() * 0.05)
        call.cancel()
        await asyncio.wait([call])

    async def hurry(self, request: Ask) -> None:
        await self.stub.Generate(request, timeout=self.draw.uniform(0.001, 0.5))

    async def err(self, request: Ask) -> None:
        request.sampling.allowed_token_ids.append(10**6)
        await self.stub.Generate(request)

    async def bind(self, request: Ask) -> None:
        request.constraint.regex = "[a-c]{2,5}"
        for one in (await self.stub.Generate(request)).completions:
            assert one.finish_reason == pb.FINISH_REASON_LENGTH or re.fullmatch("[a-c]{2,5}", one.text)

    async def search(self, request: Ask) -> None:
        request.sampling.CopyFrom(pb.Sampling(num_beams=3, n=2, length_penalty=0.5))
        await self.ask(request)

    async def score(self, request: Ask) -> None:
        reply = await self.stub.Score(service_pb.ScoreRequest(text=request.text, top_logprobs=2))
        self._check(request=Ask(text=request.text), texts=[f"{reply.total_logprob:.4f}"])


USUAL = {OK, FULL}
KINDS: tuple[tuple[str, set[StatusCode]], ...] = (
    *(("ask", USUAL), ("ask", USUAL), ("read", USUAL), ("read", USUAL), ("read_slowly", USUAL)),
    *(("leave", USUAL), ("leave_at_once", USUAL), ("score", USUAL)),
    ("hurry", {*USUAL, StatusCode.DEADLINE_EXCEEDED}),
    ("err", {StatusCode.INVALID_ARGUMENT, FULL}),
    *(("bind", USUAL), ("search", USUAL)),
)
