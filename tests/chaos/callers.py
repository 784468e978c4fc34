"""Good clients: they wait for their deadline, resume what broke, and know the right answers."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from grpc import StatusCode, aio

from maas.gateway.v1 import gateway_service_pb2 as gateway
from maas.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from maas.sequence.v1 import sequence_pb2
from maas.sequence.v1.sequence_service_pb2_grpc import SequenceServiceStub
from tests.chaos.asks import Ask
from tests.chaos.others import DEADLINE_S, Others
from tests.chaos.streams import STREAM_S, Streams
from tests.service.sequence.calls import FRAMES
from tests.service.sequence.replicas import Broken, Caller

THOUGHT_S = 0.06  # between two calls
FRAMES_SAID = 40

Kind = Callable[[], Awaitable[str]]


@dataclass
class Callers(Streams):
    """All that is asked, in a mix; `administers`: they may change what runs."""

    scores: list[list[float]] = field(default_factory=list)
    administers: bool = False

    async def learn(self) -> None:
        """Each answer, and the outputs of a session that never broke."""
        await super().learn()
        if "sequence" in self.areas:
            self.scores = await self._session()
        self.others = Others(self.channel, self.areas, self.draw, self.administers)
        await self.others.learn()

    async def work(self, until: Callable[[], bool]) -> None:
        """One caller: call after call."""
        kinds = self._kinds()
        while not until():
            kind, within_s = self.draw.choice(kinds)
            await self.tally.end(kind.__name__, kind, within_s)
            await asyncio.sleep(self.draw.uniform(0, THOUGHT_S))

    def _kinds(self) -> list[tuple[Kind, float]]:
        streams = [self.fan_out_stream, self.pipeline_stream]
        streams += [self.token_stream, self.detokenize_stream] if "tokenization" in self.areas else []
        streams += [self.picture_stream, self.infer_stream] if "vision" in self.areas else []
        streams += [self.session, self.session, self.single_steps] if "sequence" in self.areas else []
        streams += [self.text_stream] * 3 if "generation" in self.areas else []
        unary = [self.ask] * len(streams) * 2 + [self.leave, self.err, *self.others.kinds()]
        return [*((one, STREAM_S) for one in streams), *((one, DEADLINE_S) for one in unary)]

    async def ask(self) -> str:
        index = self.draw.randrange(len(self.asks))
        try:
            reply = await self.asks[index].answer(self.channel, DEADLINE_S, fresh=self.draw.random() < 0.7)
        except aio.AioRpcError as error:
            return _bounded(self.asks[index], error)
        self._check(self.answers[index], reply)
        return "answered"

    async def leave(self) -> str:
        """The caller changes its mind, sooner or later."""
        ask = self.draw.choice(self.asks)
        call = asyncio.ensure_future(ask.answer(self.channel, DEADLINE_S, fresh=True))
        await asyncio.sleep(self.draw.random() * 0.03)
        call.cancel()
        await asyncio.wait([call])
        if call.cancelled():
            return "cancelled"
        try:
            call.result()
        except aio.AioRpcError as error:
            return _bounded(ask, error)
        return "answered"

    async def err(self) -> str:
        """What no server should do."""
        try:
            await GatewayServiceStub(self.channel).FanOut(gateway.FanOutRequest(), timeout=DEADLINE_S)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.INVALID_ARGUMENT:
                raise
            return "refused"
        raise AssertionError("an empty fan-out was taken")

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


def _bounded(ask: Ask, error: aio.AioRpcError) -> str:
    """A service bounds the explanations at work and refuses the next; nothing else may be refused here."""
    if error.code() is not StatusCode.RESOURCE_EXHAUSTED or not ask.path.endswith("/Explain"):
        raise error
    return "refused"
